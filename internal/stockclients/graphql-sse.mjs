// Follows one subscription with the stock graphql-sse client, resuming by cursor, and prints each
// result as a line of JSON. It stops when its standard input closes.
//
//   node graphql-sse.mjs URL TOKEN 'subscription …' [single]
//
// With "single" it uses single connection mode. It prints {"connected":true} when a stream is
// open, {"error":…} when the client gives up and {"complete":true} when the operation is over.
import { createClient } from 'graphql-sse';

const [url, token, query, mode] = process.argv.slice(2);
const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');

const client = createClient({
  url,
  singleConnection: mode === 'single',
  headers: () => (token ? { authorization: `Bearer ${token}` } : {}),
  retryAttempts: Number(process.env.RETRIES ?? 500),
  retry: () => new Promise((done) => setTimeout(done, 200)),
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
      print({ error: { message: err.message, status: err.response?.status } });
      process.exit(1);
    },
    complete() {
      print({ complete: true });
      process.exit(0);
    },
  },
);

process.stdin.resume();
process.stdin.on('close', () => {
  client.dispose();
  process.exit(0);
});
