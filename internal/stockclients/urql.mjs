// Follows one subscription with the stock @urql/core and its subscription exchange, resuming by
// cursor, and prints each result as a line of JSON. It stops when its standard input closes.
//
//   node urql.mjs URL TOKEN 'subscription …'
//
// It prints {"error":…} when the client gives up.
import { Client, subscriptionExchange } from '@urql/core';
import { print, socket, untilInputCloses } from './common.mjs';

const [url, token, query] = process.argv.slice(2);
const ws = socket(url, token);

const client = new Client({
  url,
  preferGetMethod: false,
  exchanges: [
    subscriptionExchange({
      forwardSubscription(request) {
        const variables = { ...request.variables }; // the socket's client sends this object again when it reconnects
        return {
          subscribe: (sink) => ({
            unsubscribe: ws.subscribe({ query: request.query ?? '', operationName: request.operationName, variables }, {
              ...sink,
              next(result) {
                variables.after = result.extensions?.cursor ?? null;
                sink.next(result);
              },
              error: (err) => sink.error(err),
              complete: () => sink.complete(),
            }),
          }),
        };
      },
    }),
  ],
});

client.subscription(query, {}).subscribe((result) => {
  if (result.error) {
    print({ error: { message: result.error.message } });
    process.exit(1);
  }
  if (result.data) print({ data: result.data, extensions: result.extensions });
});
untilInputCloses();
