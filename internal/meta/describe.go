package meta

import (
	"crypto/sha256"
	"time"

	"github.com/waypost-gateway/waypost/internal/waypost"
)

// A path leads from an object to a member of an object within it.
type path []string

// Where the fields keep the business number, and the business account when the
// entry is about the portfolio that owns it. The field messages has metadata
// and nothing else, so that an On-Premises callback, whose members become those
// of the value, can't claim another number.
var (
	phoneNumberIDs = []path{
		{"metadata", "phone_number_id"},
		{"recipient", "phone_number_id"},
		{"phone_number_settings", "phone_number_id"},
	}
	displayPhones = []path{
		{"metadata", "display_phone_number"},
		{"recipient", "display_phone_number"},
		{"display_phone_number"},
		{"phone_number"},
	}
	wabaIDs = []path{
		{"waba_info", "waba_id"},
	}
)

// Where items say whom they are about, best first. Statuses of a group have its
// id as recipient_id.
var (
	contactIDs = []path{
		{"wa_id"}, {"user_id"}, {"parent_user_id"},
	}
	messageContacts = []path{
		{"group_id"},
		{"from"},
		{"from_user_id"},
		{"from_parent_user_id"},
		{"system", "wa_id"},
		{"system", "user_id"},
	}
	statusContacts = []path{
		{"recipient_id"},
		{"message", "recipient_id"},
		{"recipient_user_id"},
		{"recipient_parent_user_id"},
		{"parent_recipient_user_id"},
	}
	participants = []path{
		{"recipient_participant_id"},
		{"participant_recipient_id"},
		{"recipient_participant_user_id"},
		{"recipient_participant_parent_user_id"},
	}
	// Of the other fields. from and to are the business on one side.
	subjectContacts = []path{
		{"group_id"},
		{"from"},
		{"to"},
		{"recipient_id"},
		{"wa_id"},
		{"message", "to"},
		{"from_user_id"},
		{"to_user_id"},
		{"recipient_user_id"},
		{"user_id"},
	}
)

// subjects are the arrays that hold what a change of another field is about.
var subjects = []string{
	"calls", "statuses", "messages", "message_echoes", "groups",
	"user_preferences", "user_id_update", "user_actions", "automatic_events",
}

// address is where a change belongs.
type address struct {
	wabaID, phoneNumberID, displayPhone string
}

func (s *splitter) address(c *change) address {
	ids, phones, accounts := phoneNumberIDs, displayPhones, wabaIDs
	if string(c.field) == fieldMessages {
		ids, phones, accounts = ids[:1], phones[:1], nil
	}
	a := address{wabaID: s.first(c.value, accounts, ""), phoneNumberID: s.first(c.value, ids, "")}
	if a.wabaID == "" {
		a.wabaID = c.id
	}
	for _, p := range phones {
		if a.displayPhone = digits(s.string(s.member(c.value, p...))); a.displayPhone != "" {
			break
		}
	}
	return a
}

// number is what tells this business number from others.
func (a *address) number() []byte {
	if a.phoneNumberID != "" {
		return []byte(a.phoneNumberID)
	}
	return []byte(a.displayPhone)
}

// first is the first identifier, other than one, that the paths lead to.
func (s *splitter) first(n int, paths []path, other string) string {
	for _, p := range paths {
		if id := identifier(s.string(s.member(n, p...))); id != "" && id != other {
			return id
		}
	}
	return ""
}

// describe fills in all of an item but its body.
func (s *splitter) describe(it *Item, p *part) {
	c := &s.changes[p.change]
	it.Type = s.typeOf(c, p)
	it.Field = string(c.field)
	it.WABAID, it.PhoneNumberID, it.DisplayPhone = c.wabaID, c.phoneNumberID, c.displayPhone
	it.OccurredAt = c.sentAt
	it.Contact = c.contact
	if len(p.contacts) == 1 {
		it.Contact = s.first(p.contacts[0], contactIDs, "")
	}
	switch {
	case p.odd, p.list == errorList:
	case p.list == messages:
		s.describeMessage(it, c, p.element)
	case p.list == statuses:
		s.describeStatus(it, c, p.element)
	case p.list == echoes:
		s.describeEcho(it, c, p.element)
	default:
		s.describeChange(it, c)
	}
	if it.identity == (digest{}) {
		it.identity = s.identityOfBytes(c, p)
	}
}

// typeOf is the event type of a part.
func (s *splitter) typeOf(c *change, p *part) string {
	switch {
	case p.odd:
		return waypost.TypeUnparsed
	case p.list == messages:
		return waypost.TypeMessagePrefix + segment(s.string(s.member(p.element, "type")))
	case p.list == statuses:
		return waypost.TypeStatusPrefix + segment(s.string(s.member(p.element, "status")))
	case p.list == errorList:
		return waypost.TypeError
	default:
		return waypost.TypeFieldPrefix + segment(c.field)
	}
}

func (s *splitter) describeMessage(it *Item, c *change, message int) {
	if who := s.first(message, messageContacts, ""); who != "" {
		it.Contact = who
	}
	if at := s.timestamp(message); !at.IsZero() {
		it.OccurredAt = at
	}
	if id := s.string(s.member(message, "id")); len(id) > 0 {
		it.identity = identify([]byte("message"), c.number(), id)
	}
}

func (s *splitter) describeStatus(it *Item, c *change, status int) {
	if who := s.first(status, statusContacts, ""); who != "" {
		it.Contact = who
	}
	if at := s.timestamp(status); !at.IsZero() {
		it.OccurredAt = at
	}
	if id := s.string(s.member(status, "id")); len(id) > 0 {
		it.identity = identify([]byte("status"), c.number(), id,
			s.string(s.member(status, "status")),
			[]byte(s.first(status, participants, "")),
			s.string(s.member(status, "timestamp")),
			s.string(s.member(status, "type")),
			s.string(s.member(status, "payment", "transaction", "id")))
	}
}

// describeEcho describes a message that the business sent; the customer is the
// one it went to.
func (s *splitter) describeEcho(it *Item, c *change, echo int) {
	if who := s.first(echo, subjectContacts, c.displayPhone); who != "" {
		it.Contact = who
	}
	if at := s.timestamp(echo); !at.IsZero() {
		it.OccurredAt = at
	}
	if id := s.string(s.member(echo, "id")); len(id) > 0 {
		it.identity = identify([]byte("echo"), c.field, c.number(), id)
	}
}

// describeChange describes a change of another field by its one subject; of
// several, none stands for the whole.
func (s *splitter) describeChange(it *Item, c *change) {
	holder := c.value
	if standby := s.member(c.value, "standby"); s.isObject(standby) {
		holder = standby
	}
	subject := none
	for _, name := range subjects {
		if subject = s.only(s.member(holder, name)); subject != none {
			break
		}
	}
	if it.OccurredAt.IsZero() {
		it.OccurredAt = s.timestamp(c.value)
	}
	if it.OccurredAt.IsZero() {
		it.OccurredAt = s.timestamp(subject)
	}
	if who := s.first(subject, subjectContacts, c.displayPhone); who != "" {
		it.Contact = who
	}
	if it.Contact == "" {
		it.Contact = s.first(s.only(s.member(holder, "contacts")), contactIDs, "")
	}
	if it.Contact == "" {
		it.Contact = identifier(s.string(s.member(c.value, "sender", "phone_number")))
	}
}

// identityOfBytes is the identity of what has no id of its own.
func (s *splitter) identityOfBytes(c *change, p *part) digest {
	n := p.element
	for _, candidate := range []int{c.value, c.node, c.entry.node} {
		if n == none {
			n = candidate
		}
	}
	bytes := sha256.Sum256(s.raw(n))
	return identify([]byte("bytes"), c.number(), []byte(c.wabaID), c.sent, c.field, bytes[:])
}

// timestamp is when a message, a status, a call happened.
func (s *splitter) timestamp(n int) time.Time {
	return unixTime(s.string(s.member(n, "timestamp")))
}
