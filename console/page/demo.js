// What there is in `rowtide demo` only: users to choose from, and writes at the press of a
// button. The paths below exist nowhere else.
import { make } from './view.js';

const headers = { 'Rowtide-Demo': '1', 'Content-Type': 'application/json' };
const $ = (id) => document.getElementById(id);

async function call(path, body) {
  const response = await fetch(path, body === undefined ? { headers } : { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

// session gives the users with their tokens.
export const session = () => call('demo/session.json');

// Writes is the card with the buttons.
export class Writes {
  #chosen = '0';

  constructor({ users, paused }) {
    $('write').hidden = false;
    $('write-user').replaceChildren(...users.map(({ name }) => make('option', { text: name })));
    $('write-task').onchange = ({ target }) => { this.#chosen = target.value; };
    $('pause').onclick = () => this.#pause($('pause').getAttribute('aria-pressed') === 'false');
    $('pause').setAttribute('aria-pressed', String(paused));
    $('write').onclick = ({ target }) => {
      const kind = target.closest('[data-kind]')?.dataset.kind;
      if (kind) this.#write(kind);
    };
  }

  // offer takes the rows of all sides, and lists the tasks among them.
  offer(rows) {
    const tasks = new Map();
    for (const { id, title } of rows) if (id !== undefined) tasks.set(id, title ?? '');
    const select = $('write-task');
    const wanted = [['0', 'any'], ...[...tasks].sort(([a], [b]) => a - b).map(([id, title]) => [id, `${id} ${title}`.trim()])];
    if (!wanted.some(([id]) => id === this.#chosen)) this.#chosen = '0';
    const text = JSON.stringify(wanted);
    if (select.dataset.offered === text) return;
    select.dataset.offered = text;
    select.replaceChildren(...wanted.map(([value, text]) => make('option', { value, text })));
    select.value = this.#chosen;
  }

  // pick chooses a task.
  pick({ id }) {
    if (![...$('write-task').options].some(({ value }) => value === id)) return;
    this.#chosen = $('write-task').value = id;
  }

  async #write(kind) {
    try {
      const { sql } = await call('demo/write', { kind, user: $('write-user').value, task: this.#chosen });
      $('outcome').replaceChildren(make('code', { text: sql.replace(/\s+/g, ' ') }));
    } catch ({ message }) {
      $('outcome').textContent = message;
    }
  }

  async #pause(paused) {
    try {
      await call('demo/pause', { paused });
      $('pause').setAttribute('aria-pressed', String(paused));
    } catch ({ message }) {
      $('outcome').textContent = message;
    }
  }
}
