// Package feedtest judges what a subscriber received. It is for tests alone.
//
// It has two halves. Validators take the frames of one subscription, in the order in which they
// arrived, and say where a guarantee of the API is broken; each states its guarantee in prose
// first, and its tests show that it fails on a stream broken in each way. The Reference says
// what a subscription should have received: it reads the commits of a database in WAL order,
// through a decoder that is not ours, replays them one by one on a second database, and asks
// Postgres there what each subscriber's SELECT returns before and after each.
//
// A test of the whole service is then:
//
//	fx := feedtest.NewFixture(userRole, readerRole)          // tables, policies, principals
//	ref := &feedtest.Reference{Source: …, Target: …, …}
//	ref.Prepare(ctx)                                         // from here on nothing is missed
//	… start the service, subscribe fx.Subscriptions(), wait for LIVE …
//	stats, err := (&feedtest.Workload{…}).Run(ctx)
//	streams, err := ref.Run(ctx, from)
//	for _, s := range streams { feedtest.Judge(s, frames of s.Subscription) }
//
// Nothing here imports the code that it judges.
package feedtest
