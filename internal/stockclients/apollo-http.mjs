// Follows one subscription with the stock @apollo/client over its HTTP link (multipart
// subscriptions), resuming by cursor, and prints each result as a line of JSON. It stops when its
// standard input closes.
//
//   node apollo-http.mjs URL TOKEN 'subscription …'
//
// It prints {"error":…} when the client gives up and {"complete":true} when the operation is
// over.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { RetryLink } from '@apollo/client/link/retry';
import { tap } from 'rxjs';

const [url, token, query] = process.argv.slice(2);
const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');

let after = null; // of the last result; none while a snapshot is on its way
const resume = new ApolloLink((operation, forward) => {
  operation.variables = { ...operation.variables, after };
  return forward(operation).pipe(
    tap((result) => {
      if (result.data) after = result.extensions?.cursor ?? null;
    }),
  );
});

// What the service says by these codes does not get better by asking again.
const lasting = ['BAD_USER_INPUT', 'GRAPHQL_PARSE_FAILED', 'GRAPHQL_VALIDATION_FAILED', 'FORBIDDEN'];
const retry = new RetryLink({
  delay: { initial: 200, max: 200, jitter: false },
  attempts: {
    max: 500,
    retryIf: (error) => !error?.errors?.some((e) => lasting.includes(e.extensions?.code)),
  },
});

const client = new ApolloClient({
  cache: new InMemoryCache(),
  link: ApolloLink.from([retry, resume, new HttpLink({ uri: url, headers: token ? { authorization: `Bearer ${token}` } : {} })]),
});
client.subscribe({ query: gql(query), fetchPolicy: 'no-cache', errorPolicy: 'none' }).subscribe({
  next(result) {
    if (result.error) {
      print({ error: { message: result.error.message, codes: result.error.errors?.map((e) => e.extensions?.code) } });
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

process.stdin.resume();
process.stdin.on('close', () => process.exit(0));
