// Asks for the schema with every variant of the introspection query that graphql-js writes: those
// of GraphiQL, graphql-codegen, Apollo, Relay and urql are among them. Each must give a client
// schema that is valid and, as far as the variant asks, the schema that the server prints.
//
//   node introspection.mjs URL TOKEN < schema.graphql
//
// It prints the number of variants, or what is wrong, as a line of JSON.
import { buildClientSchema, buildSchema, getIntrospectionQuery, lexicographicSortSchema, printSchema, validateSchema } from 'graphql';
import { text } from 'node:stream/consumers';

const [url, token] = process.argv.slice(2);
const printed = (schema) => printSchema(lexicographicSortSchema(schema));
const want = printed(buildSchema(await text(process.stdin)));

const options = ['descriptions', 'specifiedByUrl', 'directiveIsRepeatable', 'schemaDescription', 'inputValueDeprecation', 'oneOf'];
const problems = [];
let variants = 0;
for (let bits = 0; bits < 1 << options.length; bits++) {
  const variant = Object.fromEntries(options.map((name, i) => [name, Boolean(bits & (1 << i))]));
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query: getIntrospectionQuery(variant), operationName: 'IntrospectionQuery' }),
  });
  const { data, errors } = await response.json();
  if (errors) {
    problems.push({ variant, errors });
    continue;
  }
  variants++;
  const schema = buildClientSchema(data);
  problems.push(...validateSchema(schema).map((e) => ({ variant, message: e.message })));
  const got = printed(schema).split('\n');
  const at = want.split('\n').findIndex((line, i) => line !== got[i]);
  if (variant.descriptions && at >= 0) problems.push({ variant, message: `got ${got[at]}, where the server prints ${want.split('\n')[at]}` });
}
process.stdout.write(JSON.stringify({ variants, problems: problems.slice(0, 3) }) + '\n');
