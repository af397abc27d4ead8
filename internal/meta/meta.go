// Package meta knows how Meta writes its WhatsApp webhooks: how to take a
// request apart into single items, how to put items together again, and how to
// turn the Cloud API's form into the older On-Premises form and back.
//
// # One request, many items
//
// A request holds up to a thousand updates: several entries (business
// accounts), several changes in each, several messages, statuses and errors in
// a change of the field "messages", several echoes in one of an echo field. Split makes each of them an Item with an
// envelope of its own, a complete webhook body:
//
//   - Bytes are copied, never written anew: numbers keep their digits, texts
//     their escapes, members their order. Only the white space between the
//     members of the envelope is lost, and a request with one item is not
//     touched at all.
//   - Members of the envelope that nobody knows stay, in the envelope of each item.
//   - Of value.contacts an item gets those that name its sender or recipient.
//     One that names nobody's goes to the items that have none of their own,
//     and if there is no such item to the first.
//   - Echoes (fields message_echoes and smb_message_echoes) are one item each.
//     Changes of other fields are one item each, however many messages or calls
//     they may hold. So is a change of "messages" without messages, statuses
//     and errors (link clicks, in user_actions); its type is whatsapp.messages.
//   - value.errors beside a single message that has no content and no errors
//     of its own say what is wrong with that message, and stay with it.
//
// A request is refused as a whole (the caller keeps its bytes) when it is not
// JSON, not about a WhatsApp business account, or no part of it is understood;
// and when it is out of all proportion: of more than maxItems items, of very many
// values for its size, or one
// whose items, each in its envelope, would take many times its size.
//
// When a part is odd (a change without a field, a message that is no object or
// is nested deeper than maxDepth, two members with the same name where it
// matters) the rest splits as ever and the odd part becomes an item of type
// waypost.TypeUnparsed in an envelope of its own. The part is the smallest that
// holds all of what is odd: an element of a list, else the change, else the
// entry. Texts that come to rule something here (ids, types) are checked for
// length and characters, so that no store or log chokes on them.
//
// # Reading
//
// Read gives what an item says as Go values, for those who write it in another
// form. It is tolerant: a member of the wrong type counts as absent, and texts,
// ids and numbers keep their digits.
//
// # On-Premises form
//
// The On-Premises client sent the value of a change alone: contacts, messages,
// statuses, errors, without envelope and metadata. FromOnPrem puts the envelope
// around it, ToOnPrem takes it off, and what the two forms write differently is
// translated on the way:
//
//   - client: type "voice" with an object voice; Cloud: type "audio" with an
//     object audio, in which voice is true
//   - client: details of an error; Cloud: error_data.details, and a message
//     equal to the title
//   - client: system.new_wa_id of a changed number; Cloud: system.wa_id
//
// That is why events need no mark of where they came from. A callback comes
// back as it was: what could not be told apart on the way back (an error with
// both details and error_data, a voice note that has an object audio as well)
// is not translated. Only a callback that its client wrote the Cloud's way
// (audio.voice true, error_data.details, a message equal to the title, wa_id of
// a changed number) can't be told from a translated one, and goes out in the
// client's form. Members that only one of the forms knows otherwise (file,
// sha256 in hex, media url, user ids, unknown ones) go along: receivers ignore
// what they don't know, and nothing is lost.
package meta

const (
	objectAccount          = "whatsapp_business_account"
	fieldMessages          = "messages"
	fieldEchoes            = "message_echoes"
	fieldBusinessAppEchoes = "smb_message_echoes"
)
