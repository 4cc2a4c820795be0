// The client's whole rule: RESET or TRUNCATE: clear. row present: put it at rowId. rowId
// without row: remove it. Otherwise ignore. Kinds that are still to come obey it too.

// apply does to rows, a Map by rowId, what a frame says, and tells what it was: 'clear', 'put',
// 'add', 'remove' or nothing.
export function apply(rows, { kind, rowId, row }) {
  if (kind === 'RESET' || kind === 'TRUNCATE') {
    rows.clear();
    return 'clear';
  }
  if (rowId == null) return undefined;
  if (row) {
    const what = rows.has(rowId) ? 'put' : 'add';
    rows.set(rowId, row);
    return what;
  }
  return rows.delete(rowId) ? 'remove' : undefined;
}
