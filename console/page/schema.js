// What introspection tells about the tables that a role can subscribe to.

export const INTROSPECTION = `query {
  __schema {
    subscriptionType { fields { name description args { name } type { ...ref } } }
    types { kind name description fields { name description type { ...ref } } enumValues { name } }
  }
}
fragment ref on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { name kind } } } } }`;

// tablesOf reads an introspection result into tables by the name of their field: each has name,
// description, arguments, columns and key, the names of the key's columns.
export function tablesOf(result) {
  const { subscriptionType, types } = result.data.__schema;
  const byName = new Map(types.map((type) => [type.name, type]));
  const tables = new Map();
  for (const field of subscriptionType?.fields ?? []) {
    const change = byName.get(bare(field.type).name);
    const row = change?.fields?.find(({ name }) => name === 'row');
    const key = change?.fields?.find(({ name }) => name === 'key');
    if (!row || !key) continue;
    tables.set(field.name, {
      name: field.name,
      description: field.description ?? '',
      columns: fieldsOf(row, byName).map((column) => columnOf(column, byName)),
      key: fieldsOf(key, byName).map(({ name }) => name),
    });
  }
  return tables;
}

function columnOf({ name, description, type }, byName) {
  const { kind, name: scalar } = bare(type);
  const list = type.kind === 'LIST' || type.ofType?.kind === 'LIST';
  return { name, description: description ?? '', kind, scalar, list, selection: selectionOf(name, kind, scalar, byName, 0) };
}

// selectionOf is how a column is asked for: objects (ranges, composites) with all their fields.
function selectionOf(name, kind, scalar, byName, depth) {
  if (kind !== 'OBJECT') return name;
  if (depth > 3) return '';
  const inner = byName.get(scalar).fields.map((f) => {
    const { kind, name: scalar } = bare(f.type);
    return selectionOf(f.name, kind, scalar, byName, depth + 1);
  });
  return `${name} { ${inner.filter(Boolean).join(' ')} }`;
}

const fieldsOf = ({ type }, byName) => byName.get(bare(type).name)?.fields ?? [];

function bare(type) {
  while (type.ofType) type = type.ofType;
  return type;
}

const NUMBERS = new Set(['Int', 'Float', 'BigInt', 'Decimal', 'Double']);
export const isNumber = (column) => NUMBERS.has(column?.scalar) && !column.list;
