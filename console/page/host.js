// What serves this page. `rowtide demo` puts a file of its own in this one's place.
export const demo = false;
