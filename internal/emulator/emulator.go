// Package emulator plays the two ends of the gateway: Meta, which sends signed
// webhooks in, and receivers, which take hooks out. The tests, `waypost dev`
// and whatever else needs traffic without an account anywhere are built on it.
//
// It is written from the wire formats alone and shares no code with the gateway
// it is pointed at: it builds payloads, signs them and checks what comes out by
// itself, so that a mistake on one side can't cancel the same mistake on the
// other. All values are invented: phone numbers come from ranges reserved for
// fiction, ids are made up. With the same seed it makes the same items.
//
// When something fails, Meta reports what the gateway answered and, in retry
// mode, tries again until its tries are used up; a Receiver answers as its
// script says and keeps every request it got.
package emulator
