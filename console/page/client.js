// A client of graphql-transport-ws that comes back by itself. Operations survive a lost socket:
// each is sent again with its variables as they are then, so that whoever keeps
// variables.after up to date goes on where it was.

// After these the server would only refuse again: the fault is ours (see the README's table).
const FINAL = new Set([4400, 4401, 4406, 4409, 4429]);
const COME_BACK = 4403; // unless the token that was just brought has expired
const FIRST_WAIT = 300, LONGEST_WAIT = 8_000, PING_EVERY = 12_000, PONG_WITHIN = 8_000; // ms

export class Client {
  #url; #token; #onstate;
  #socket; #acknowledged = false; #ended = false;
  #operations = new Map(); #lastId = 0;
  #tries = 0; #retry; #ping; #pong;

  // onstate is called with 'connecting', 'open', 'waiting' (and until when) or 'refused' (and why).
  constructor({ url, token, onstate }) {
    this.#url = url;
    this.#token = token;
    this.#onstate = onstate;
    this.#open();
  }

  // subscribe starts an operation; sink has next(result), error(list) and complete(). Queries
  // are operations too. It gives the function that ends it.
  subscribe(query, variables, sink) {
    const id = String(++this.#lastId);
    this.#operations.set(id, { query, variables, sink });
    if (this.#acknowledged) this.#start(id);
    return () => {
      if (this.#operations.delete(id) && this.#acknowledged) this.#send({ id, type: 'complete' });
    };
  }

  // query is a promise of one result.
  query(query, variables = {}) {
    return new Promise((resolve, reject) => {
      let result;
      this.subscribe(query, variables, { next: (r) => { result = r; }, error: reject, complete: () => resolve(result) });
    });
  }

  // hurry makes a client that waits try at once.
  hurry() {
    if (this.#retry) this.#open();
  }

  // close ends all, without a word to the operations.
  close() {
    this.#ended = true;
    this.#operations.clear();
    this.#quiet();
    this.#socket?.close(1000);
  }

  #open() {
    this.#quiet();
    this.#onstate('connecting');
    const socket = this.#socket = new WebSocket(this.#url, 'graphql-transport-ws');
    const mine = (f) => (event) => { if (socket === this.#socket && !this.#ended) f(event); };
    socket.onopen = mine(() => {
      this.#send({ type: 'connection_init', payload: this.#token ? { authorization: `Bearer ${this.#token}` } : {} });
      this.#pong = setTimeout(() => this.#lost(), PONG_WITHIN);
    });
    socket.onmessage = mine((event) => this.#take(JSON.parse(event.data)));
    socket.onclose = mine((event) => this.#lost(event));
  }

  #take({ id, type, payload }) {
    clearTimeout(this.#pong); // whatever came, the server is there
    const operation = this.#operations.get(id);
    switch (type) {
      case 'connection_ack':
        this.#acknowledged = true;
        this.#tries = 0;
        this.#ping = setInterval(() => this.#ask(), PING_EVERY);
        for (const each of this.#operations.keys()) this.#start(each);
        this.#onstate('open'); // behind it, since it may start more
        break;
      case 'ping':
        this.#send({ type: 'pong' });
        break;
      case 'next':
        operation?.sink.next(payload);
        break;
      case 'error':
        this.#operations.delete(id);
        operation?.sink.error(payload);
        break;
      case 'complete':
        this.#operations.delete(id);
        operation?.sink.complete();
    }
  }

  // ask finds out about a server that is gone without a word: browsers do not tell.
  #ask() {
    this.#send({ type: 'ping' });
    clearTimeout(this.#pong);
    this.#pong = setTimeout(() => this.#lost(), PONG_WITHIN);
  }

  #lost(event = { code: 1006, reason: 'the server does not answer' }) {
    const socket = this.#socket;
    const letIn = this.#acknowledged;
    this.#socket = undefined;
    socket?.close();
    this.#quiet();
    if (FINAL.has(event.code) || event.code === COME_BACK && !letIn) {
      this.#ended = true;
      this.#onstate('refused', { code: event.code, reason: event.reason });
      return;
    }
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#tries++) * (0.75 + Math.random() / 2);
    this.#retry = setTimeout(() => this.#open(), wait);
    this.#onstate('waiting', { code: event.code, reason: event.reason, tries: this.#tries });
  }

  #quiet() {
    this.#acknowledged = false;
    clearTimeout(this.#retry);
    clearTimeout(this.#pong);
    clearInterval(this.#ping);
    this.#retry = undefined;
  }

  #start(id) {
    const { query, variables } = this.#operations.get(id);
    this.#send({ id, type: 'subscribe', payload: { query, variables } });
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}
