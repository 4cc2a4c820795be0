// Follows one subscription with the stock graphql-ws client, resuming by cursor, and prints each
// result as a line of JSON. It stops when its standard input closes.
//
//   node graphql-ws.mjs URL TOKEN 'subscription …'
//
// It prints {"connected":true} when the server has acknowledged the socket, and {"error":…} when
// the client gives up.
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const [url, token, query] = process.argv.slice(2);
const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');

const client = createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: token ? { authorization: `Bearer ${token}` } : {},
  retryAttempts: 500,
  shouldRetry: () => true,
  retryWait: () => new Promise((done) => setTimeout(done, 200)),
  on: { connected: () => print({ connected: true }) },
});

const variables = {}; // the client sends the same object again when it reconnects
client.subscribe(
  { query, variables },
  {
    next(result) {
      variables.after = result.extensions?.cursor ?? null; // none while a snapshot is on its way
      print(result);
    },
    error(err) {
      print({ error: Array.isArray(err) ? err : { code: err.code, reason: err.reason, message: err.message } });
      process.exit(1);
    },
    complete() {
      print({ complete: true });
      process.exit(0);
    },
  },
);

process.stdin.resume();
process.stdin.on('close', async () => {
  await client.dispose();
  process.exit(0);
});
