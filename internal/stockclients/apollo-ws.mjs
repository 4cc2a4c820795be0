// Follows one subscription with the stock @apollo/client over its WebSocket link, resuming by
// cursor, and prints each result as a line of JSON. It stops when its standard input closes.
//
//   node apollo-ws.mjs URL TOKEN 'subscription …'
//
// It prints {"error":…} when the client gives up and {"complete":true} when the operation is
// over.
import { ApolloClient, ApolloLink, InMemoryCache, gql } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { tap } from 'rxjs';
import { print, socket, untilInputCloses } from './common.mjs';

const [url, token, query] = process.argv.slice(2);

const resume = new ApolloLink((operation, forward) => {
  const variables = { ...operation.variables }; // the socket's client sends this object again when it reconnects
  operation.variables = variables;
  return forward(operation).pipe(tap((result) => { variables.after = result.extensions?.cursor ?? null; }));
});

const client = new ApolloClient({
  cache: new InMemoryCache(),
  link: ApolloLink.from([resume, new GraphQLWsLink(socket(url, token))]),
});
client.subscribe({ query: gql(query), fetchPolicy: 'no-cache', errorPolicy: 'none' }).subscribe({
  next(result) {
    if (result.error) {
      print({ error: { message: result.error.message, errors: result.error.errors } });
      process.exit(1);
    }
    print({ data: result.data, extensions: result.extensions });
  },
  error(err) {
    print({ error: { message: err.message } });
    process.exit(1);
  },
  complete() {
    print({ complete: true });
    process.exit(0);
  },
});
untilInputCloses();
