package schema

// CompareValues compares the output texts of two values of a type of pg_catalog exactly as
// PostgreSQL orders them: numeric, date, timestamp and timestamptz. It tells false where it
// cannot.
func CompareValues(typname, a, b string) (int, bool) {
	var c *comparison
	switch typname {
	case "numeric":
		c = numericComparison
	case "date":
		c = dateComparison
	case "timestamp":
		c = timestampComparison
	case "timestamptz":
		c = timestamptzComparison
	default:
		return 0, false
	}
	x, known := c.parse(a)
	y, alsoKnown := c.parse(b)
	if !known || !alsoKnown {
		return 0, false
	}
	return c.order(x, y), true
}
