package meta

import (
	"bytes"
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

// FromOnPrem gives the Cloud form of the callback of an On-Premises client, in
// an envelope. Nothing in a callback names the business number it is for, so
// the caller does; what is not known may be empty. A messaging_product or
// metadata in the callback, which the client does not send, gives way to the
// envelope's: a callback can't claim another number.
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
	dst = translator{d, onPremForm, cloudForm}.appendMembers(dst, root)
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
	dst := append(make([]byte, 0, len(body)), '{')
	dst = translator{d, cloudForm, onPremForm}.appendMembers(dst, value)
	return append(dst, '}'), true, nil
}

// form is how one of the two forms writes what they write differently.
type form struct {
	voice   string // the type of a voice note, and the member with its content
	flagged bool   // the content has a flag that tells it from an audio file
	number  string // the member of a notice of the system with the new number
	problem func(d *document, dst []byte, e int) []byte
}

var (
	cloudForm  = form{voice: "audio", flagged: true, number: "wa_id", problem: (*document).appendCloudError}
	onPremForm = form{voice: "voice", number: "new_wa_id", problem: (*document).appendOnPremError}
)

// voiceFlag is the member of a voice note's content that is true in the Cloud
// form.
const voiceFlag = "voice"

// translator writes the parts of a document in the other form. It leaves alone
// what it could not translate back.
type translator struct {
	*document
	from, to form
}

// appendMembers writes the members of a value, without those that belong to
// the envelope.
func (t translator) appendMembers(dst []byte, value int) []byte {
	for member := range t.children(value) {
		name := t.name(member)
		if isCloudOnly(name) {
			continue
		}
		switch dst = t.appendName(dst, member); messagesListOf(name) {
		case messages:
			dst = t.appendEach(dst, member, t.appendMessage)
		case statuses:
			dst = t.appendEach(dst, member, t.appendStatus)
		case errorList:
			dst = t.appendEach(dst, member, t.appendError)
		default:
			dst = append(dst, t.raw(member)...)
		}
	}
	return dst
}

// appendEach writes an array with every object in it as write writes it. What
// is no array is copied.
func (t translator) appendEach(dst []byte, array int, write func([]byte, int) []byte) []byte {
	if !t.isArray(array) {
		return append(dst, t.raw(array)...)
	}
	dst = append(dst, '[')
	for element := range t.children(array) {
		if !t.isObject(element) {
			dst = t.appendElement(dst, element)
			continue
		}
		dst = write(separate(dst), element)
	}
	return append(dst, ']')
}

func (t translator) appendMessage(dst []byte, message int) []byte {
	voice := t.isVoice(message)
	dst = append(dst, '{')
	for member := range t.children(message) {
		switch name := string(t.name(member)); {
		case name == "type" && voice:
			dst = appendText(t.appendName(dst, member), t.to.voice)
		case name == t.from.voice && voice:
			dst = t.appendVoice(appendNewName(dst, t.to.voice), member)
		case name == "system":
			dst = t.appendSystem(t.appendName(dst, member), member)
		case name == "errors":
			dst = t.appendEach(t.appendName(dst, member), member, t.appendError)
		default:
			dst = t.appendMember(dst, member)
		}
	}
	return append(dst, '}')
}

// isVoice reports whether a message is a voice note in the form it comes from.
func (t translator) isVoice(message int) bool {
	content := t.member(message, t.from.voice)
	flag := t.member(content, voiceFlag)
	return string(t.string(t.member(message, "type"))) == t.from.voice &&
		t.isObject(content) && t.member(message, t.to.voice) == none &&
		(t.from.flagged && t.begins(flag, 't') || !t.from.flagged && flag == none)
}

// appendVoice writes the content of a voice note.
func (t translator) appendVoice(dst []byte, content int) []byte {
	if !t.to.flagged {
		return t.appendWithout(dst, content, voiceFlag)
	}
	dst = append(dst, '{')
	for member := range t.children(content) {
		dst = t.appendMember(dst, member)
	}
	return append(appendNewName(dst, voiceFlag), "true}"...)
}

// appendSystem writes a notice of the system.
func (t translator) appendSystem(dst []byte, system int) []byte {
	if string(t.string(t.member(system, "type"))) != "user_changed_number" || t.member(system, t.to.number) != none {
		return append(dst, t.raw(system)...)
	}
	dst = append(dst, '{')
	for member := range t.children(system) {
		if string(t.name(member)) == t.from.number {
			dst = append(appendNewName(dst, t.to.number), t.raw(member)...)
			continue
		}
		dst = t.appendMember(dst, member)
	}
	return append(dst, '}')
}

func (t translator) appendStatus(dst []byte, status int) []byte {
	dst = append(dst, '{')
	for member := range t.children(status) {
		if string(t.name(member)) == "errors" {
			dst = t.appendEach(t.appendName(dst, member), member, t.appendError)
			continue
		}
		dst = t.appendMember(dst, member)
	}
	return append(dst, '}')
}

func (t translator) appendError(dst []byte, e int) []byte { return t.to.problem(t.document, dst, e) }

// appendOnPremError writes an error: the client had no error_data, and told
// the details in a member of their own. One that has such a member is not the
// Cloud API's, and left alone.
func (d *document) appendOnPremError(dst []byte, e int) []byte {
	data := d.member(e, "error_data")
	details := d.member(data, "details")
	repeated := d.repeatsTitle(e)
	if d.member(e, "details") != none || details == none && !repeated {
		return append(dst, d.raw(e)...)
	}
	dst = append(dst, '{')
	for member := range d.children(e) {
		switch name := string(d.name(member)); {
		case member == data && details != none:
			dst = append(appendNewName(dst, "details"), d.raw(details)...)
			if rest := d.appendWithout(nil, data, "details"); len(rest) > len("{}") {
				dst = append(d.appendName(dst, data), rest...)
			}
		case name == "error_data" && details != none: // one that another follows and hides
		case name == "message" && repeated:
		default:
			dst = d.appendMember(dst, member)
		}
	}
	return append(dst, '}')
}

// appendCloudError writes an error: the Cloud API gives a message beside the
// title, and the details in error_data. The details of an error that has
// error_data or such a message of its own could not be told from those when it
// goes out again, so that one is left alone.
func (d *document) appendCloudError(dst []byte, e int) []byte {
	if d.member(e, "details") != none && (d.member(e, "error_data") != none || d.repeatsTitle(e)) {
		return append(dst, d.raw(e)...)
	}
	title := d.member(e, "title")
	repeat := d.begins(title, '"') && d.member(e, "message") == none
	dst = append(dst, '{')
	for member := range d.children(e) {
		if string(d.name(member)) == "details" {
			dst = append(appendNewName(dst, "error_data"), `{"details":`...)
			dst = append(append(dst, d.raw(member)...), '}')
			continue
		}
		dst = d.appendMember(dst, member)
		if member == title && repeat {
			dst = append(appendNewName(dst, "message"), d.raw(title)...)
		}
	}
	return append(dst, '}')
}

// repeatsTitle reports whether the message of an error is its title.
func (d *document) repeatsTitle(e int) bool {
	title, message := d.member(e, "title"), d.member(e, "message")
	return d.begins(title, '"') && d.begins(message, '"') && bytes.Equal(d.string(title), d.string(message))
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

// appendNewName begins a member with a name that needs no escapes.
func appendNewName(dst []byte, name string) []byte {
	return append(append(append(separate(dst), '"'), name...), `":`...)
}
