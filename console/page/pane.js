// One subscriber's side of the page: a socket, a subscription, the rows that it keeps, and the
// frames that made them so.
import { Client } from './client.js';
import { apply } from './rows.js';
import { INTROSPECTION, tablesOf } from './schema.js';
import { FramesView, RowsView } from './view.js';

const STATES = {
  off: 'Not connected', connecting: 'Connecting…', loading: 'Loading…', live: 'Live',
  waiting: 'Reconnecting…', refused: 'Refused', failed: 'Not subscribed', idle: 'Connected', offline: 'Offline',
};

// The service's words for what ends a subscription that may simply begin again.
const AGAIN = new Set(['RESYNC_REQUIRED', 'SCHEMA_CHANGED']);
const PATIENCE = 2_000; // ms until what the service could not do is tried again

export class Pane {
  #part; #client; #end; #token; #query; #variables = {}; #again;
  #rows = new Map(); #table; #rowsView; #framesView; #failures = 0;

  constructor({ url, onschema, onerror, onrefused, onchange, onpick }) {
    this.url = url;
    Object.assign(this, { onschema, onerror, onrefused, onchange });
    this.element = document.getElementById('pane').content.firstElementChild.cloneNode(true);
    this.#part = (selector) => this.element.querySelector(selector);
    this.#rowsView = new RowsView(this.#part('.rows'), onpick);
    this.#framesView = new FramesView(this.#part('.frames .scroll'));
    this.who = this.#part('.who');
  }

  get rows() { return this.#rows; }

  // call says whose side this is.
  call(name) {
    this.element.setAttribute('aria-label', name);
    this.#part('.rows').setAttribute('aria-label', `Rows for ${name}`);
    this.#part('.frames .scroll').setAttribute('aria-label', `Frames for ${name}`);
    this.#part('caption').textContent = `What ${name} sees`;
  }

  // connect opens a socket with a token, and begins anew.
  connect(token) {
    this.#token = token;
    this.#forget();
    this.resume();
  }

  // renew opens a socket with another token of the same subscriber, and goes on.
  renew(token) {
    this.#token = token;
    this.resume();
  }

  // resume opens a socket, and goes on behind the last cursor where there is one.
  resume() {
    this.#client?.close();
    this.#failures = 0;
    this.#client = new Client({ url: this.url, token: this.#token, onstate: (state, why) => this.#connection(state, why) });
    if (this.#query) this.#subscribe();
  }

  // leave closes the socket and keeps what was received.
  leave() {
    clearTimeout(this.#again);
    this.#client?.close();
    this.#client = undefined;
    this.#show('offline');
  }

  hurry() { this.#client?.hurry(); }

  close() {
    this.leave();
    this.element.remove();
  }

  // follow subscribes by a text; table, where known, says more about the columns.
  follow(query, table) {
    this.#query = query;
    this.#table = table;
    this.#forget();
    if (this.#client) this.#subscribe();
  }

  #forget() {
    this.#variables = {};
    this.#rows.clear();
    this.#rowsView.clear(this.#table);
    this.#framesView.clear();
    this.#say('');
  }

  #subscribe() {
    clearTimeout(this.#again);
    this.#end?.();
    this.#show('loading');
    this.#end = this.#client.subscribe(this.#query, this.#variables, {
      next: (result) => this.#take(result),
      error: (errors) => this.#fail(errors),
      complete: () => this.#show('idle'),
    });
  }

  #take({ data, errors, extensions }) {
    if (!data) {
      this.#fail(errors ?? []);
      return;
    }
    this.#failures = 0;
    const frame = Object.values(data)[0];
    const what = apply(this.#rows, frame);
    this.#variables.after = extensions?.cursor ?? null; // none while a snapshot is on its way
    this.#framesView.add(frame);
    this.#rowsView.note(frame, what);
    if (frame.kind === 'LIVE') this.#show('live');
    else if (frame.kind === 'RESET') this.#show('loading');
    this.#say(frame.rowId === undefined ? 'The rows need rowId and row { … } in the text; the frames come all the same.' : '');
    this.onchange(this);
  }

  #fail(errors) {
    const code = errors[0]?.extensions?.code;
    const text = errors.map(({ message }) => message).join('\n');
    this.#end = undefined;
    if (AGAIN.has(code) && this.#failures++ < 3) {
      this.#framesView.add({ kind: code, changed: [text] });
      this.#forgetRows();
      this.#learn();
      this.#subscribe();
      return;
    }
    this.#show('failed');
    this.#say(text);
    this.onerror(this, errors);
    if (code === 'INTERNAL') this.#again = setTimeout(() => this.#client && this.#subscribe(), PATIENCE);
  }

  #forgetRows() {
    this.#variables = {};
    this.#rows.clear();
    this.#rowsView.clear(this.#table);
  }

  #connection(state, why) {
    switch (state) {
      case 'connecting':
        this.#show(this.#is('waiting') ? 'waiting' : 'connecting');
        break;
      case 'open':
        this.#say('');
        this.refused = false;
        this.#show(this.#query ? 'loading' : 'idle');
        this.#learn();
        break;
      case 'waiting':
        this.#show('waiting');
        if (why.tries > 2) this.#advise(why);
        break;
      case 'refused':
        this.#show('refused');
        this.refused = true;
        this.#say(`${why.reason || 'The service refuses this connection'} (${why.code})`);
        this.onrefused(this, why);
    }
  }

  #is(state) { return this.#part('.state').dataset.state === state; }

  // advise says what a browser does not tell: why a socket does not open.
  async #advise({ reason }) {
    const up = await fetch('healthz').then(({ ok }) => ok, () => false);
    if (!this.#is('waiting')) return;
    this.#say(up
      ? `The service is there but opens no socket for this page. It has to allow the page’s origin: --allow-origin ${location.origin}`
      : reason || 'The service does not answer. Trying on.');
  }

  // learn asks for the schema: with each new socket, since it may have changed meanwhile.
  async #learn() {
    const client = this.#client;
    try {
      const result = await client.query(INTROSPECTION);
      if (client === this.#client) this.onschema(this, tablesOf(result));
    } catch (errors) {
      if (client !== this.#client) return;
      if (!Array.isArray(errors)) throw errors;
      this.onschema(this, undefined, errors[0]?.message);
    }
  }

  #show(state) {
    const element = this.#part('.state');
    if (element.dataset.state === state) return;
    element.dataset.state = state;
    this.#part('.state-text').textContent = STATES[state];
    this.#rowsView.settle(state);
  }

  #say(text) {
    const notice = this.#part('.notice');
    if (notice.textContent === text) return;
    notice.textContent = text;
    notice.hidden = !text;
  }
}
