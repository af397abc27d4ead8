package meta

import (
	"encoding/json"
	"errors"
	"fmt"
)

// IsOnPrem reports whether a body has the On-Premises form: no envelope, and
// at least one of the arrays that the client sends.
func IsOnPrem(body []byte) bool {
	d, err := parse(body)
	if err != nil {
		return false
	}
	defer d.release()
	return d.isOnPrem()
}

func (d *document) isOnPrem() bool {
	if d.member(root, "object") != none && d.member(root, "entry") != none {
		return false
	}
	return d.holdsOnPrem(root)
}

// holdsOnPrem reports whether an object has one of the arrays that the
// On-Premises client sends. Contacts beside user_actions are a link click,
// which it did not tell of.
func (d *document) holdsOnPrem(n int) bool {
	if !d.isObject(n) {
		return false
	}
	contacts := false
	for member := range d.children(n) {
		switch name := d.name(member); {
		case !d.isArray(member):
		case messagesListOf(name) != noList:
			return true
		case string(name) == "contacts":
			contacts = true
		}
	}
	return contacts && d.member(n, "user_actions") == none
}

// FromOnPrem puts the Cloud API's envelope around the callback of an
// On-Premises client. Nothing in a callback names the business number it is
// for, so the caller does; what is not known may be empty. A messaging_product
// or metadata in the callback, which the client does not send, gives way to
// the envelope's: a callback can't claim another number.
func FromOnPrem(body []byte, phoneNumberID, displayPhone, wabaID string) ([]byte, error) {
	d, err := parse(body)
	if err != nil {
		return nil, fmt.Errorf("read On-Premises callback: %w", err)
	}
	defer d.release()
	if !d.isOnPrem() {
		return nil, errors.New("read On-Premises callback: it has no contacts, messages, statuses or errors")
	}
	dst := make([]byte, 0, len(body)+256)
	dst = append(dst, `{"object":"`+objectAccount+`","entry":[{"id":`...)
	dst = appendText(dst, wabaID)
	dst = append(dst, `,"changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":`...)
	dst = appendText(dst, displayPhone)
	dst = append(dst, `,"phone_number_id":`...)
	dst = appendText(dst, phoneNumberID)
	dst = append(dst, '}')
	for member := range d.children(root) {
		if !isCloudOnly(d.name(member)) {
			dst = d.appendMember(dst, member)
		}
	}
	return append(dst, `},"field":"`+fieldMessages+`"}]}]}`...), nil
}

// isCloudOnly tells of a member of a value whether the On-Premises form goes
// without it.
func isCloudOnly(name []byte) bool {
	return string(name) == "messaging_product" || string(name) == "metadata"
}

func appendText(dst []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil { // a string always has a JSON form
		return append(dst, `""`...)
	}
	return append(dst, quoted...)
}

// ToOnPrem gives the On-Premises form of a webhook body with one change. Not
// ok: the On-Premises client had no such event.
func ToOnPrem(body []byte) (out []byte, ok bool, err error) {
	d, err := parse(body)
	if err != nil {
		return nil, false, fmt.Errorf("read webhook: %w", err)
	}
	defer d.release()
	change := d.only(d.member(d.only(d.member(root, "entry")), "changes"))
	if change == none {
		return nil, false, errors.New("read webhook: it does not hold exactly one change")
	}
	value := d.member(change, "value")
	if string(d.string(d.member(change, "field"))) != fieldMessages || !d.holdsOnPrem(value) {
		return nil, false, nil
	}
	return d.appendOnPrem(make([]byte, 0, len(body)), value), true, nil
}

func (d *document) appendOnPrem(dst []byte, value int) []byte {
	dst = append(dst, '{')
	for member := range d.children(value) {
		name := d.name(member)
		switch {
		case isCloudOnly(name):
		case !d.isArray(member):
			dst = d.appendMember(dst, member)
		case messagesListOf(name) == messages:
			dst = d.appendEach(d.appendName(dst, member), member, d.appendOnPremMessage)
		case messagesListOf(name) == statuses:
			dst = d.appendEach(d.appendName(dst, member), member, d.appendOnPremStatus)
		case messagesListOf(name) == errorList:
			dst = d.appendEach(d.appendName(dst, member), member, d.appendOnPremError)
		default:
			dst = d.appendMember(dst, member)
		}
	}
	return append(dst, '}')
}

// appendEach writes an array with every element as write writes it. What is no
// array of objects is copied.
func (d *document) appendEach(dst []byte, array int, write func([]byte, int) []byte) []byte {
	if !d.isArray(array) {
		return append(dst, d.raw(array)...)
	}
	dst = append(dst, '[')
	for element := range d.children(array) {
		if !d.isObject(element) {
			dst = d.appendElement(dst, element)
			continue
		}
		dst = write(separate(dst), element)
	}
	return append(dst, ']')
}

func (d *document) appendOnPremMessage(dst []byte, message int) []byte {
	voice := d.isVoice(message)
	dst = append(dst, '{')
	for member := range d.children(message) {
		switch name := string(d.name(member)); {
		case name == "type" && voice:
			dst = append(d.appendName(dst, member), `"voice"`...)
		case name == "audio" && voice:
			dst = append(separate(dst), `"voice":`...)
			dst = d.appendWithout(dst, member, "voice")
		case name == "system":
			dst = d.appendOnPremSystem(d.appendName(dst, member), member)
		case name == "errors":
			dst = d.appendEach(d.appendName(dst, member), member, d.appendOnPremError)
		default:
			dst = d.appendMember(dst, member)
		}
	}
	return append(dst, '}')
}

// isVoice reports whether an audio message is a voice note.
func (d *document) isVoice(message int) bool {
	flag := d.member(message, "audio", "voice")
	return d.begins(flag, 't') && d.member(message, "voice") == none &&
		string(d.string(d.member(message, "type"))) == "audio"
}

func (d *document) appendWithout(dst []byte, object int, left string) []byte {
	dst = append(dst, '{')
	for member := range d.children(object) {
		if string(d.name(member)) != left {
			dst = d.appendMember(dst, member)
		}
	}
	return append(dst, '}')
}

// appendOnPremSystem writes a notice of the system: the client told a changed
// number as new_wa_id.
func (d *document) appendOnPremSystem(dst []byte, system int) []byte {
	if string(d.string(d.member(system, "type"))) != "user_changed_number" || d.member(system, "new_wa_id") != none {
		return append(dst, d.raw(system)...)
	}
	dst = append(dst, '{')
	for member := range d.children(system) {
		if string(d.name(member)) == "wa_id" {
			dst = append(separate(dst), `"new_wa_id":`...)
			dst = append(dst, d.raw(member)...)
			continue
		}
		dst = d.appendMember(dst, member)
	}
	return append(dst, '}')
}

func (d *document) appendOnPremStatus(dst []byte, status int) []byte {
	dst = append(dst, '{')
	for member := range d.children(status) {
		if string(d.name(member)) == "errors" {
			dst = d.appendEach(d.appendName(dst, member), member, d.appendOnPremError)
			continue
		}
		dst = d.appendMember(dst, member)
	}
	return append(dst, '}')
}

// appendOnPremError writes an error: the client had no error_data, and told
// the details in a member of their own.
func (d *document) appendOnPremError(dst []byte, e int) []byte {
	details := d.member(e, "error_data", "details")
	if details == none || d.member(e, "details") != none {
		return append(dst, d.raw(e)...)
	}
	repeated := string(d.string(d.member(e, "message"))) == string(d.string(d.member(e, "title")))
	dst = append(dst, '{')
	for member := range d.children(e) {
		switch name := string(d.name(member)); {
		case name == "error_data":
			dst = append(separate(dst), `"details":`...)
			dst = append(dst, d.raw(details)...)
		case name == "message" && repeated:
		default:
			dst = d.appendMember(dst, member)
		}
	}
	return append(dst, '}')
}
