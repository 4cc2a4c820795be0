package schema

import "strings"

// irregular holds the words that the endings below would get wrong.
var irregular = map[string]string{
	"people": "person", "men": "man", "women": "woman", "children": "child",
	"mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth",
	"calves": "calf", "elves": "elf", "halves": "half", "hooves": "hoof", "knives": "knife",
	"leaves": "leaf", "lives": "life", "loaves": "loaf", "scarves": "scarf",
	"selves": "self", "shelves": "shelf", "thieves": "thief", "wives": "wife", "wolves": "wolf",
	"appendices": "appendix", "indices": "index", "matrices": "matrix", "vertices": "vertex",
	"analyses": "analysis", "crises": "crisis", "diagnoses": "diagnosis",
	"hypotheses": "hypothesis", "theses": "thesis",
	"criteria": "criterion", "phenomena": "phenomenon",
	"aliases": "alias", "biases": "bias", "gases": "gas", "lenses": "lens", "atlases": "atlas",
	"canvases": "canvas", "quizzes": "quiz",
	"bonuses": "bonus", "buses": "bus", "campuses": "campus", "censuses": "census",
	"viruses": "virus", "statuses": "status", "consensuses": "consensus",
	"heroes": "hero", "potatoes": "potato", "tomatoes": "tomato", "echoes": "echo",
	"vetoes": "veto", "shoes": "shoe", "toes": "toe",
	"movies": "movie", "cookies": "cookie", "calories": "calorie", "selfies": "selfie",
	"ties": "tie", "pies": "pie", "lies": "lie", "zombies": "zombie", "rookies": "rookie",
	"caches": "cache", "headaches": "headache", "niches": "niche",
	// The same in both numbers, or not a plural, or of two singulars.
	"axes": "axes", "bases": "bases", "data": "data", "media": "media", "metadata": "metadata",
	"news": "news", "series": "series", "species": "species", "sheep": "sheep", "fish": "fish",
	"lens": "lens", "means": "means", "gas": "gas", "alias": "alias", "bias": "bias",
	"atlas": "atlas", "canvas": "canvas", "always": "always", "has": "has", "was": "was",
	"sales": "sale", "logistics": "logistics", "statistics": "statistic",
	"analytics": "analytics", "metrics": "metric", "physics": "physics", "sms": "sms",
	"dns": "dns", "gps": "gps", "css": "css", "aws": "aws", "https": "https", "os": "os",
}

// endings are tried in order; the first that fits decides. keep means: leave the word alone.
var endings = []struct{ plural, singular string }{
	{"ss", "ss"},    // address, access
	{"us", "us"},    // status, bus
	{"is", "is"},    // analysis
	{"sses", "ss"},  // addresses
	{"shes", "sh"},  // wishes
	{"ches", "ch"},  // batches
	{"xes", "x"},    // boxes
	{"zzes", "zz"},  // buzzes
	{"ies", "y"},    // categories
	{"oes", "oes"},  // of both kinds: unsure
	{"uses", "use"}, // causes, houses
	{"s", ""},       // items
}

// singular gives the singular of an English word in lower case, and the word itself where it is
// not sure. Its answers are part of the API, since type names derive from them: a golden test
// freezes them.
func singular(word string) string {
	if s, ok := irregular[word]; ok {
		return s
	}
	if len(word) < 4 {
		return word
	}
	for _, e := range endings {
		stem, ok := strings.CutSuffix(word, e.plural)
		if !ok {
			continue
		}
		if last := len(stem) - 1; last < 0 || stem[last] < 'a' || stem[last] > 'z' {
			return word
		}
		return stem + e.singular
	}
	return word
}
