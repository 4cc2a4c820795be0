import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { RetryLink } from '@apollo/client/link/retry';
import { tap } from 'rxjs';

let after = null;
const resume = new ApolloLink((operation, forward) => {
  operation.variables = { ...operation.variables, after };
  return forward(operation).pipe(tap((result) => {
    if (result.data) after = result.extensions?.cursor ?? null;
  }));
});
const client = new ApolloClient({
  cache: new InMemoryCache(),
  link: ApolloLink.from([
    
    resume,
    new HttpLink({ uri: process.env.URL, headers: { authorization: `Bearer ${process.env.TOKEN}` } }),
  ]),
});
const rows = new Map();
client.subscribe({ fetchPolicy: 'no-cache', query: gql`subscription ($after: Cursor) {
  notes(snapshot: true, after: $after) { kind rowId row { id text } } }` }).subscribe({
  next({ data, error }) {
    if (error) return console.error(error);
    const { kind, rowId, row } = data.notes;
    if (kind === 'RESET' || kind === 'TRUNCATE') rows.clear();
    else if (row) rows.set(rowId, row);
    else if (rowId) rows.delete(rowId);
    console.log(JSON.stringify([...rows.values()]));
  },
  error: (e) => { console.error("ERR", e); process.exit(1); },
});
