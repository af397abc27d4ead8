// Package faults holds the tests that break things: real processes of the real
// program, on real databases, under load, while nodes are killed, databases
// vanish, disks fill up and receivers misbehave.
//
// The model. A generator posts signed webhooks as Meta would, repeating each
// until it is answered 200, and a ledger notes what was answered 200. Receivers
// note in the same ledger what arrived at which endpoint. When the fault is over
// the ledger is closed: everything accepted must have arrived at every endpoint
// that was owed it, or be visibly held or given up where the scenario says so;
// what arrived twice must have been under way at a fault. After each fault the
// gateway must be delivering again within ten seconds, without a hand.
//
// The tests have a short form, part of every test run, and a long one with
// hundreds of rounds (WAYPOST_FAULTS=long, or make faults). At the end they
// print one line of figures a scenario.
//
// What happens on failure: the test says what is missing and shows what the
// nodes logged. Faults that this machine does not allow (mounting a small file
// system, for one) are skipped with the reason. Processes, mounts and databases
// end with the test, and processes with the test program if that dies.
package faults
