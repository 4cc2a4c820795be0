// The subscription's text: written for a table, and edited in place where a column is ticked,
// so that what people typed elsewhere in it stays as they typed it.

// FEW are as many columns as one can take in at a glance.
const FEW = 6;

// write is the text for a table to begin with.
export function write({ name, columns, key }) {
  const row = columns.slice(0, FEW).map(({ selection }) => selection);
  return `subscription ($after: Cursor) {
  ${name}(
    snapshot: true
    after: $after
  ) {
    kind
    rowId
    key { ${key.join(' ')} }
    row {
      ${wrap(row).join('\n      ')}
    }
    changed
    cursor
  }
}
`;
}

// wrap puts words into lines that a narrow place can show.
function wrap(words) {
  const lines = [];
  for (const word of words) {
    if (lines.length > 0 && lines.at(-1).length + word.length < 26) lines.push(`${lines.pop()} ${word}`);
    else lines.push(word);
  }
  return lines;
}

// tokens are the names and punctuators of a document with their places, without comments and
// strings.
function tokens(text) {
  const found = [];
  const pattern = /"""[^]*?"""|"(?:\\.|[^"\\\n])*"|#[^\n]*|\$?[A-Za-z_]\w*|[{}()[\]:!@]/g;
  for (const match of text.matchAll(pattern)) {
    if (match[0][0] === '"' || match[0][0] === '#') continue;
    found.push({ text: match[0], at: match.index });
  }
  return found;
}

// rowOf finds the selection of row: the places of its braces, and the fields in it, each with
// the place where it begins and ends (with a selection of its own).
function rowOf(text) {
  const all = tokens(text);
  const start = all.findIndex((token, i) => token.text === 'row' && all[i + 1]?.text === '{' && all[i - 1]?.text !== ':');
  if (start < 0) return undefined;
  const fields = [];
  let depth = 0;
  for (let i = start + 1; i < all.length; i++) {
    const token = all[i];
    if (token.text === '{' || token.text === '(') depth++;
    else if (token.text === '}' || token.text === ')') depth--;
    else if (depth === 1 && all[i - 1].text !== ':' && all[i - 1].text !== '@' && /^\w/.test(token.text)) {
      fields.push({ name: all[i + 1]?.text === ':' ? all[i + 2]?.text : token.text, at: token.at, end: token.at + token.text.length });
    }
    const last = fields.at(-1);
    if (last && depth >= 1) last.end = token.at + token.text.length;
    if (depth === 0) return { open: all[start + 1].at, close: token.at, fields };
  }
  return undefined;
}

// selected are the columns that the text asks for, or nothing where it has no selection of row.
export function selected(text) {
  const row = rowOf(text);
  return row && new Set(row.fields.map(({ name }) => name));
}

// toggle adds or removes a column. A selection must not be empty: the last one stays.
export function toggle(text, column, on) {
  const row = rowOf(text);
  if (!row) return text;
  const last = row.fields.at(-1);
  if (on) {
    const end = last?.end ?? row.open + 1;
    return `${text.slice(0, end)} ${column.selection}${text.slice(end)}`;
  }
  const at = row.fields.findIndex(({ name }) => name === column.name);
  if (at < 0 || row.fields.length < 2) return text;
  const field = row.fields[at];
  // With the space that parts it from its neighbour: the one before it, or behind the first.
  return at > 0
    ? text.slice(0, row.fields[at - 1].end) + text.slice(field.end)
    : text.slice(0, field.at) + text.slice(row.fields[1].at);
}

// tableOf is the field that the text subscribes to: the first name in its outermost braces.
export function tableOf(text) {
  const all = tokens(text);
  const open = all.findIndex(({ text: t }, i) => t === '{' && balanced(all.slice(0, i)));
  const [first, colon, second] = all.slice(open + 1, open + 4).map(({ text: t }) => t);
  return colon === ':' ? second : first;
}

function balanced(list) {
  return list.reduce((depth, { text }) => depth + (text === '(') - (text === ')'), 0) === 0;
}
