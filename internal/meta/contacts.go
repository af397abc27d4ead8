package meta

import "slices"

// personal tells of a member of a message, a status or a contact whether it
// names the customer: by phone, by user id, or by the user id that the
// customer has for the whole of a business.
func personal(name []byte) bool {
	switch string(name) {
	case "wa_id", "user_id", "parent_user_id",
		"from", "from_user_id", "from_parent_user_id",
		"recipient_id", "recipient_user_id", "recipient_parent_user_id", "parent_recipient_user_id",
		"recipient_participant_id", "participant_recipient_id",
		"recipient_participant_user_id", "recipient_participant_parent_user_id":
		return true
	default:
		return false
	}
}

// shareContacts gives each of the parts the contacts that go with it.
func (s *splitter) shareContacts(contacts int, parts []part) error {
	byID := map[string][]int{}
	seen := map[string]bool{}
	var distinct []int
	for contact := range s.children(contacts) {
		if seen[string(s.raw(contact))] {
			continue
		}
		seen[string(s.raw(contact))] = true
		distinct = append(distinct, contact)
		s.eachPerson(contact, func(id string) { byID[id] = append(byID[id], contact) })
	}
	taker := map[int]*part{} // of each contact, who took it last
	for i := range parts {
		p := &parts[i]
		fits := true
		s.eachPerson(p.element, func(id string) {
			for _, contact := range byID[id] {
				if fits && taker[contact] != p {
					taker[contact] = p
					fits = s.give(p, contact)
				}
			}
		})
		if !fits {
			return errTooBig
		}
	}
	return s.giveRest(distinct, taker, parts)
}

// giveRest gives the contacts that nobody took to the parts that got none, or
// to the first.
func (s *splitter) giveRest(contacts []int, taker map[int]*part, parts []part) error {
	var rest []int
	for _, contact := range contacts {
		if taker[contact] == nil {
			rest = append(rest, contact)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	var takers []*part
	for i := range parts {
		if len(parts[i].contacts) == 0 {
			takers = append(takers, &parts[i])
		}
	}
	if len(takers) == 0 {
		takers = []*part{&parts[0]}
	}
	for _, p := range takers {
		for _, contact := range rest {
			if !s.give(p, contact) {
				return errTooBig
			}
		}
	}
	return nil
}

func (s *splitter) give(p *part, contact int) bool {
	p.contacts = append(p.contacts, contact)
	return s.spend(len(s.raw(contact)))
}

// eachPerson calls f with the ids by which a message, a status or a contact
// names the customer.
func (s *splitter) eachPerson(n int, f func(id string)) {
	if !s.isObject(n) {
		return
	}
	for member := range s.children(n) {
		if !personal(s.name(member)) {
			continue
		}
		if id := identifier(s.string(member)); len(id) > 0 {
			f(string(id))
		}
	}
	if id := identifier(s.string(s.member(n, "message", "recipient_id"))); len(id) > 0 {
		f(string(id))
	}
}

// appendContacts writes the contacts that go with a part, in their old order;
// without any, the member is left out.
func (s *splitter) appendContacts(dst []byte, member int, contacts []int) []byte {
	if len(contacts) == 0 {
		return dst
	}
	dst = append(s.appendName(dst, member), '[')
	slices.Sort(contacts)
	for _, contact := range contacts {
		dst = s.appendElement(dst, contact)
	}
	return append(dst, ']')
}
