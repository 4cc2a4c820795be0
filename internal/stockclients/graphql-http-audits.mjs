// Runs the server audits of npm's graphql-http, and prints each result as a line of JSON.
//
//   node graphql-http-audits.mjs URL
import { serverAudits } from 'graphql-http';

const [url] = process.argv.slice(2);
for (const audit of serverAudits({ url })) {
  const { id, name, status, reason } = await audit.fn();
  process.stdout.write(JSON.stringify({ id, name, status, reason }) + '\n');
}
