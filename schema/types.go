package schema

// A scalar is a leaf type of the API: how its values are written, and how filters compare them.
type scalar struct {
	name   string
	filter filterInput
	write  writeFunc
	// compare is nil where values cannot be compared in process exactly as PostgreSQL does.
	compare *comparison
}

// A columnType is what the API makes of a type: a leaf, a list, or an object.
type columnType struct {
	// graphql is the type as SDL writes it, without a final exclamation mark.
	graphql string
	// scalar or enum is set for a leaf.
	scalar *scalar
	enum   *enumType
	// elem is what a list is of, and delimiter what stands between its elements.
	elem      *columnType
	delimiter byte
	// object is of an object; with multi, of each in a multirange, which is a list of them.
	object *objectType
	multi  bool
	// write is nil where a document selects fields: those say how it is written.
	write   writeFunc
	compare *comparison
	filter  filterInput
}

// The OIDs of the built-in types that have a mapping, from pg_type.dat. They never change.
const (
	oidBool        = 16
	oidBytea       = 17
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidInterval    = 1186
	oidTimetz      = 1266
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802

	firstNormalOID = 16384 // FirstNormalObjectId: extensions and users begin here
)

// scalarsByOID maps the built-in types. A type that is not here is PgText.
var scalarsByOID = map[uint32]*scalar{
	oidBool:        {name: "Boolean", filter: inputOf("Boolean", withEqual), write: writeBool, compare: boolComparison},
	oidInt2:        {name: "Int", filter: inputOf("Int", withEqual|withOrder), write: writeDigits, compare: int2Comparison},
	oidInt4:        {name: "Int", filter: inputOf("Int", withEqual|withOrder), write: writeDigits, compare: int4Comparison},
	oidInt8:        {name: "BigInt", filter: inputOf("BigInt", withEqual|withOrder), write: writeQuotedDigits, compare: int8Comparison},
	oidFloat4:      {name: "Double", filter: inputOf("Double", withEqual|withOrder), write: writeDouble, compare: float4Comparison},
	oidFloat8:      {name: "Double", filter: inputOf("Double", withEqual|withOrder), write: writeDouble, compare: float8Comparison},
	oidNumeric:     {name: "Decimal", filter: inputOf("Decimal", withEqual|withOrder), write: writeString, compare: numericComparison},
	oidText:        {name: "String", filter: inputOf("String", textOperators), write: writeString, compare: textComparison},
	oidVarchar:     {name: "String", filter: inputOf("String", textOperators), write: writeString, compare: textComparison},
	oidName:        {name: "String", filter: inputOf("String", textOperators), write: writeString, compare: textComparison},
	oidBpchar:      {name: "String", filter: inputOf("String", textOperators), write: writeString, compare: bpcharComparison},
	oidUUID:        {name: "UUID", filter: inputOf("UUID", withEqual|withOrder), write: writeString, compare: uuidComparison},
	oidTimestamptz: {name: "DateTime", filter: inputOf("DateTime", withEqual|withOrder), write: writeDateTime, compare: timestamptzComparison},
	oidTimestamp:   {name: "LocalDateTime", filter: inputOf("LocalDateTime", withEqual|withOrder), write: writeDateTime, compare: timestampComparison},
	oidDate:        {name: "Date", filter: inputOf("Date", withEqual|withOrder), write: writeDateTime, compare: dateComparison},
	oidTime:        {name: "LocalTime", filter: inputOf("LocalTime", withEqual|withOrder), write: writeString, compare: timeOfDayComparison},
	oidTimetz:      {name: "OffsetTime", filter: inputOf("OffsetTime", withEqual|withOrder), write: writeOffsetTime, compare: offsetTimeComparison},
	oidInterval:    {name: "Duration", filter: inputOf("Duration", withEqual|withOrder), write: writeDuration, compare: durationComparison},
	oidBytea:       {name: "Bytes", filter: inputOf("Bytes", withEqual|withOrder), write: writeBytes, compare: bytesComparison},
	oidJSON:        {name: "JSON", filter: presence, write: writeRawJSON},
	oidJSONB:       {name: "JSON", filter: inputOf("JSON", withEqual|withContains), write: writeRawJSON, compare: jsonComparison},
}

// citextScalar is text that compares without regard to case. It has no startsWith, which in SQL
// would regard case.
var citextScalar = &scalar{
	name: "String", write: writeString, compare: textComparison,
	filter: filterInput{name: citextFilter, operand: "String", ops: withEqual | withOrder | withLike},
}

// textScalar is the text of every type without a mapping.
var textScalar = &scalar{name: "PgText", filter: presence, write: writeString}

// scalarDescriptions are those of the custom scalars, in the order in which the SDL has them.
var scalarDescriptions = []struct{ name, text string }{
	{"BigInt", `A 64-bit integer, as a string of digits: JavaScript's numbers end at 2^53.`},
	{"Bytes", `Bytes in base64 (RFC 4648, with padding).`},
	{"Cursor", `A place in the stream of changes. It is opaque; give it back as "after" to go on behind it.`},
	{"Date", `A date, "2006-01-02". Years outside 0000 to 9999 have a sign and six digits or more (ISO 8601; the year 0000 is 1 BC); also "infinity" and "-infinity".`},
	{"DateTime", `A moment in UTC by RFC 3339, to the microsecond: "2006-01-02T15:04:05.123456Z". Years outside 0000 to 9999 have a sign and six digits (ISO 8601; the year 0000 is 1 BC); also "infinity" and "-infinity".`},
	{"Decimal", `A number of any precision, as the string that the database prints: "1.10". Also "NaN", "Infinity" and "-Infinity".`},
	{"Double", `A floating-point number, with as many digits as it takes to read the same number back. The three values that JSON lacks are the strings "NaN", "Infinity" and "-Infinity".`},
	{"Duration", `An interval by ISO 8601, each part with a sign of its own: "P1Y2M-3DT4H5M6.789S".`},
	{"JSON", `Any JSON value; numbers keep their spelling and, in columns of type json, objects their duplicate keys. The null of JSON and the NULL of SQL are both null here: the operator isNull tells the latter.`},
	{"LocalDateTime", `A date and time without a zone: "2006-01-02T15:04:05.123456". Otherwise like DateTime.`},
	{"LocalTime", `A time of day without a zone, "15:04:05.123456"; the end of a day is "24:00:00".`},
	{"OffsetTime", `A time of day with its offset from UTC: "15:04:05.123456+02:00".`},
	{"PgText", `A value of a type that has no mapping: the text that the database prints.`},
	{"UUID", `A UUID in lower case: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".`},
}

// namedTypes are the API's types of PostgreSQL's enums and composites, by OID.
type namedTypes struct {
	enums   map[uint32]*enumType
	objects map[uint32]*objectType
}

// typeOf maps a type.
func typeOf(t *Type, types namedTypes) *columnType {
	t = t.undomained()
	switch {
	case t.Elem != nil:
		return listOf(t, types)
	case t.Kind == 'e' && types.enums[t.OID] != nil:
		return types.enums[t.OID].columnType()
	case t.Kind == 'c' && types.objects[t.OID] != nil:
		o := types.objects[t.OID]
		return &columnType{graphql: o.name, object: o, filter: presence}
	case (t.Kind == 'r' || t.Kind == 'm') && t.Base != nil:
		if of := typeOf(t.Base, types); of.scalar != nil {
			return rangeOf(t, of)
		}
	}
	return leafOf(scalarOf(t))
}

func leafOf(s *scalar) *columnType {
	return &columnType{graphql: s.name, scalar: s, write: s.write, compare: s.compare, filter: s.filter}
}

// undomained is the type under domains.
func (t *Type) undomained() *Type {
	for t.Kind == 'd' && t.Base != nil {
		t = t.Base
	}
	return t
}

func scalarOf(t *Type) *scalar {
	if s := scalarsByOID[t.OID]; s != nil {
		return s
	}
	if t.OID >= firstNormalOID && t.Kind == 'b' {
		switch t.Name { // types of extensions: their OIDs differ between databases
		case "citext":
			return citextScalar
		case "hstore":
			return hstoreScalar
		}
	}
	return textScalar
}

// rangeOf maps a range or multirange over a scalar.
func rangeOf(t *Type, of *columnType) *columnType {
	o := newRange(of)
	out := &columnType{graphql: o.name, object: o, filter: presence}
	if t.Kind == 'm' {
		out.graphql, out.multi = "["+o.name+"!]", true
	}
	// A range of one's own may order its elements otherwise.
	if t.OID < firstNormalOID && of.compare != nil && of.compare.order != nil {
		out.compare, out.filter = rangeComparison(of.compare), rangeInput(of.scalar)
	}
	return out
}

// listOf maps an array. PostgreSQL does not declare how many dimensions an array has, so the API
// cannot either: a value of several dimensions is a list of lists.
func listOf(t *Type, types namedTypes) *columnType {
	elem := t.Elem.undomained()
	of := typeOf(elem, types)
	out := &columnType{graphql: "[" + of.graphql + "]", elem: of, delimiter: elem.Delimiter, filter: presence}
	if out.delimiter == 0 {
		out.delimiter = ','
	}
	if of.compare != nil && of.object == nil && (of.scalar == nil || of.scalar != citextScalar) {
		out.compare, out.filter = listComparison(of.compare, out.delimiter), listInput(of.graphql)
	}
	if of.write != nil {
		out.write = writeArray(of.write, out.delimiter)
	}
	return out
}

// holdsJSON tells that a value can be the null of JSON, which a field that is not null cannot.
func (t *columnType) holdsJSON() bool {
	return t.scalar != nil && (t.scalar == scalarsByOID[oidJSON] || t.scalar == scalarsByOID[oidJSONB])
}
