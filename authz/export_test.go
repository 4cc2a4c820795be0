package authz

// Remembered is how many rates a Limiter holds.
func Remembered(l *Limiter) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rates)
}
