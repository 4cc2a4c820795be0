// Drawing: the rows of one subscription, and its frames. Frames may come by the thousand, so
// what they change is drawn once for each picture that the screen shows.
import { isNumber } from './schema.js';

const MOST_ROWS = 200, MOST_FRAMES = 100; // in the document; the rest is counted
const MARKED = 1_800, GONE = 1_400; // ms that a change stays visible
const still = matchMedia('(prefers-reduced-motion: reduce)');

export function make(tag, { text, ...rest } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), rest);
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

// A Drawing is drawn at most once for each picture.
class Drawing {
  #asked = false;

  ask() {
    if (this.#asked) return;
    this.#asked = true;
    const draw = () => {
      if (!this.#asked) return;
      this.#asked = false;
      this.draw();
    };
    requestAnimationFrame(draw);
    setTimeout(draw, 250); // a page in the background gets no pictures
  }
}

export class RowsView extends Drawing {
  #head; #body; #empty; #onpick;
  #columns = []; #table; #state = 'off';
  #rows = new Map(); // by rowId, in the order of their last change: { row, key, mark, changed, line }
  #leaving = new Set();

  constructor(region, onpick) {
    super();
    this.#head = region.querySelector('thead tr');
    this.#body = region.querySelector('tbody');
    this.#empty = region.querySelector('.empty');
    this.#onpick = onpick;
    this.#body.addEventListener('click', ({ target }) => {
      const id = target.closest('tr')?.dataset.row;
      if (this.#rows.has(id)) this.#onpick?.(this.#rows.get(id).row);
    });
  }

  clear(table) {
    this.#table = table;
    this.#columns = [];
    this.#rows.clear();
    this.#leaving.clear();
    this.#head.replaceChildren();
    this.#body.replaceChildren();
    this.#count();
  }

  // settle takes the state of the subscription, for the words that stand where no rows do.
  settle(state) {
    this.#state = state;
    this.#count();
  }

  // note takes a frame, and what it did to the rows.
  note({ kind, rowId, row, key, changed }, what) {
    if (what === 'clear') {
      // The lines stay until the rows are there again: a resync must not flicker.
      for (const entry of this.#rows.values()) entry.stale = true;
    } else if (what === 'remove') {
      this.#leave(rowId, kind);
    } else if (what) {
      const old = this.#rows.get(rowId);
      this.#rows.delete(rowId); // to the end: the last changed
      const entry = { ...old, row, key: this.#keyOf(row, key), stale: false };
      if (kind !== 'SNAPSHOT') entry.mark = kind;
      if (old && changed) entry.changed = changed;
      this.#rows.set(rowId, entry);
    }
    if (kind === 'LIVE' || kind === 'TRUNCATE') this.#sweep(kind);
    this.ask();
  }

  #keyOf(row, key) {
    return Object.values(key ?? this.#table?.key.map((name) => row[name]) ?? []);
  }

  #leave(rowId, kind) {
    const entry = this.#rows.get(rowId);
    this.#rows.delete(rowId);
    if (!entry?.line) return;
    this.#leaving.add(entry.line);
    mark(entry.line, kind);
    entry.line.classList.add('gone');
    const line = entry.line;
    setTimeout(() => {
      this.#leaving.delete(line);
      this.#glide(() => line.remove());
    }, GONE);
  }

  // sweep removes what was cleared and did not come again.
  #sweep(kind) {
    for (const [rowId, entry] of this.#rows) {
      if (entry.stale) this.#leave(rowId, kind === 'TRUNCATE' ? kind : 'RESET');
    }
  }

  draw() {
    const shown = [...this.#rows].slice(-MOST_ROWS).sort(([, a], [, b]) => compare(a.key, b.key));
    if (shown.length > 0) this.#heads(Object.keys(shown[0][1].row));
    this.#glide(() => {
      const keep = new Set(shown.map(([, entry]) => entry.line));
      for (const line of [...this.#body.children]) {
        if (!keep.has(line) && !this.#leaving.has(line)) line.remove();
      }
      let place = this.#body.firstElementChild;
      const next = () => { while (place && this.#leaving.has(place)) place = place.nextElementSibling; };
      for (const [rowId, entry] of shown) {
        this.#fill(rowId, entry);
        next();
        if (place === entry.line) place = place.nextElementSibling;
        else this.#body.insertBefore(entry.line, place);
      }
    });
    this.#count();
  }

  // glide lets lines go to their new places instead of jumping.
  #glide(change) {
    const lines = [...this.#body.children];
    if (still.matches || document.hidden || lines.length > 60) {
      change();
      return;
    }
    const before = new Map(lines.map((line) => [line, line.offsetTop]));
    change();
    for (const line of this.#body.children) {
      const by = (before.get(line) ?? line.offsetTop) - line.offsetTop;
      if (by) line.animate([{ transform: `translateY(${by}px)` }, { transform: 'none' }], { duration: 260, easing: 'ease-out' });
    }
  }

  #heads(names) {
    if (names.join() === this.#columns.map(({ name }) => name).join()) return;
    this.#columns = names.map((name) => this.#table?.columns.find((column) => column.name === name) ?? { name });
    this.#head.replaceChildren(
      ...this.#columns.map((column) => {
        const th = make('th', { scope: 'col', text: column.name, className: isNumber(column) ? 'number' : '', title: column.description ?? '' });
        th.setAttribute('role', 'columnheader');
        return th;
      }),
      role('columnheader', make('th', { scope: 'col', className: 'mark' }, make('span', { className: 'hidden', text: 'What happened' }))),
    );
    for (const entry of this.#rows.values()) entry.line = undefined;
    this.#body.replaceChildren();
  }

  #fill(rowId, entry) {
    const fresh = !entry.line;
    if (fresh) {
      entry.line = role('row', make('tr', {}, ...this.#columns.map(() => role('cell', make('td'))), role('cell', make('td', { className: 'mark' }))));
      entry.line.dataset.row = rowId;
    }
    this.#columns.forEach((column, i) => {
      const cell = entry.line.cells[i];
      const text = JSON.stringify(entry.row[column.name]);
      if (cell.dataset.value === text) return;
      cell.dataset.value = text;
      cell.dataset.label = column.name;
      cell.className = isNumber(column) ? 'number' : '';
      cell.replaceChildren(show(entry.row[column.name], column));
      if (!fresh && entry.mark) flash(cell, 'changed');
    });
    if (entry.mark) {
      if (fresh) flash(entry.line, 'came');
      mark(entry.line, entry.mark);
      entry.mark = undefined;
    }
  }

  #count() {
    const lines = this.#rows.size;
    const waiting = { live: 'No rows: this subscriber sees none.', loading: 'Loading…', connecting: 'Connecting…' }[this.#state] ?? '';
    this.#empty.textContent = lines > MOST_ROWS ? `${MOST_ROWS} of ${lines.toLocaleString('en')} rows: those that changed last.` : lines ? '' : waiting;
    this.#empty.hidden = !this.#empty.textContent;
  }
}

function role(name, element) {
  element.setAttribute('role', name);
  return element;
}

// mark says in a word what happened to a line.
function mark(line, kind) {
  const badge = make('span', { className: 'kind', text: kind });
  badge.dataset.kind = kind;
  line.cells[line.cells.length - 1].replaceChildren(badge);
  clearTimeout(line.unmark);
  line.unmark = setTimeout(() => badge.remove(), MARKED);
}

function flash(element, name) {
  element.classList.add(name);
  clearTimeout(element.unflash);
  element.unflash = setTimeout(() => element.classList.remove(name), MARKED);
}

function compare(a, b) {
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i]) continue;
    const by = Number(a[i]) - Number(b[i]);
    return Number.isNaN(by) ? String(a[i]).localeCompare(String(b[i])) : by || 1;
  }
  return 0;
}

// show makes what stands in a cell. Values are text and stay text, whatever is in them.
function show(value, column) {
  if (value === null || value === undefined) return make('span', { className: 'null', text: 'null' });
  if (typeof value === 'boolean') return make('span', { className: value ? 'yes' : 'no', text: value ? 'yes' : 'no' });
  if (column.kind === 'ENUM' && typeof value === 'string') return make('span', { className: 'enum', text: value });
  if (typeof value === 'object') {
    const text = JSON.stringify(value);
    return make('code', { text, title: text });
  }
  if (column.scalar === 'DateTime' && !Number.isNaN(Date.parse(value))) {
    const at = new Date(value);
    const today = at.toDateString() === new Date().toDateString();
    return make('time', { dateTime: value, title: value, text: today ? at.toLocaleTimeString() : at.toLocaleString() });
  }
  return make('span', { text: value, title: String(value).length > 24 ? value : '' });
}

export class FramesView extends Drawing {
  #body; #waiting = []; #count = 0;

  constructor(region) {
    super();
    this.#body = region.querySelector('tbody');
  }

  clear() {
    this.#waiting = [];
    this.#body.replaceChildren();
  }

  add(frame) {
    const last = this.#waiting.at(-1);
    if (frame.kind === 'SNAPSHOT' && last?.kind === 'SNAPSHOT') last.times++;
    else this.#waiting.push({ ...frame, times: 1 });
    if (this.#waiting.length > MOST_FRAMES) this.#waiting.shift();
    this.ask();
  }

  draw() {
    for (const frame of this.#waiting) {
      const top = this.#body.firstElementChild;
      if (frame.kind === 'SNAPSHOT' && top?.dataset.kind === 'SNAPSHOT') {
        top.times += frame.times;
        top.cells[1].textContent = `${top.times} rows`;
        continue;
      }
      this.#body.prepend(this.#line(frame));
    }
    this.#waiting = [];
    while (this.#body.children.length > MOST_FRAMES) this.#body.lastElementChild.remove();
  }

  #line({ kind, key, changed, cursor, reason, times }) {
    const badge = make('span', { className: 'kind', text: kind });
    badge.dataset.kind = kind;
    const keys = Object.entries(key ?? {}).map(([name, value]) => `${name} ${value}`).join(', ');
    const line = make('tr', { className: 'fresh' },
      make('td', {}, badge),
      make('td', { text: kind === 'SNAPSHOT' ? `${times} row${times > 1 ? 's' : ''}` : keys }),
      make('td', { text: reason ?? changed?.join(', ') ?? '' }),
      make('td', {}, make('code', { text: cursor ?? '', title: cursor ?? '' })));
    line.dataset.kind = kind;
    line.times = times;
    line.dataset.n = ++this.#count;
    return line;
  }
}
