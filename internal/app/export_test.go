package app

// Commits is how many group commits took events in so far, and how many events.
func (a *App) Commits() (commits, events int64) { return a.committer.Commits() }

// Unrecorded is how many deliveries are in hand, or done and not on record yet.
func (a *App) Unrecorded() int {
	g := a.engine.Gauges()
	return g.InMemory + g.Unrecorded
}
