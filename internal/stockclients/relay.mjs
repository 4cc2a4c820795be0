// Follows notes with the stock relay-runtime, resuming by cursor, and prints each result as a line
// of JSON. It stops when its standard input closes.
//
//   node relay.mjs URL TOKEN 'subscription …'
//
// It prints {"error":…} when the client gives up. The operation is what relay-compiler makes of
//
//   subscription($after: Cursor) { notes(snapshot: true, after: $after) { kind row { id text } reason } }
//
// with the text that is given, so that a mistake can be sent too. Rows are records of the store by
// what getDataID makes of them: the type and the row's id.
import relay from 'relay-runtime';
import { print, socket, untilInputCloses } from './common.mjs';

const { Environment, Network, Observable, RecordSource, Store, requestSubscription } = relay;
const [url, token, query] = process.argv.slice(2);
const ws = socket(url, token);

const scalar = (name) => ({ kind: 'ScalarField', name, alias: null, args: null, storageKey: null });
const linked = (name, concreteType, selections, args = null) => ({
  kind: 'LinkedField', name, alias: null, args, storageKey: null, concreteType, plural: false, selections,
});
const args = [
  { kind: 'Variable', name: 'after', variableName: 'after' },
  { kind: 'Literal', name: 'snapshot', value: true },
];
const selections = [
  linked('notes', 'NoteChange', [scalar('kind'), linked('row', 'Note', [scalar('id'), scalar('text')]), scalar('reason')], args),
];
const after = { kind: 'LocalArgument', name: 'after', defaultValue: null };
const subscription = {
  kind: 'Request',
  fragment: { kind: 'Fragment', name: 'Notes', type: 'Subscription', argumentDefinitions: [after], abstractKey: null, metadata: null, selections },
  operation: { kind: 'Operation', name: 'Notes', argumentDefinitions: [after], selections },
  params: { id: null, cacheID: 'notes', name: 'Notes', operationKind: 'subscription', text: query, metadata: {} },
};

const environment = new Environment({
  store: new Store(new RecordSource()),
  getDataID: (row, type) => (row.id == null ? null : `${type}:${row.id}`),
  network: Network.create(
    () => { throw new Error('only subscriptions are sent'); },
    (operation, given) => Observable.create((sink) => {
      const variables = { ...given }; // the socket's client sends this object again when it reconnects
      return ws.subscribe({ query: operation.text, variables }, {
        next(result) {
          variables.after = result.extensions?.cursor ?? null;
          sink.next(result);
        },
        error: (err) => sink.error(Array.isArray(err) ? new Error(err.map((e) => e.message).join(', ')) : err),
        complete: () => sink.complete(),
      });
    }),
  ),
});

requestSubscription(environment, {
  subscription,
  variables: {},
  onNext: (data) => print({ data }),
  onError(err) {
    print({ error: { message: err.message } });
    process.exit(1);
  },
  onCompleted() {
    print({ complete: true });
    process.exit(0);
  },
});
untilInputCloses();
