// Package consistency tests from outside what package invalidation promises: it builds the binary, runs replicas of it as processes on a real
// Redis with trouble in between, and holds every response against the receipts of the purges before it. It has tests alone, behind the build
// tag consistency, since they take minutes: make consistency.
//
//	binary_test.go     the binary as it is shipped, and one from which single rules of the protocol can be taken out
//	origin_test.go     an origin whose pages have increasing versions
//	client_test.go     what clients see: a version, and how fresh it was said to be
//	stage_test.go      some replicas on a Redis, each behind a fault proxy of its own
//	schedules*_test.go what must not happen, each in one order of events that would make it happen if a rule were missing
//	rules_test.go      which schedule catches which rule's absence
//	run_test.go        purges, reads and faults in any order
//	faults_test.go     the faults of that
//
// It imports nothing of what is shipped.
package consistency
