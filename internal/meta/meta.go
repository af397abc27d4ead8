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
// and when it is out of all proportion: nested deeper than maxDepth, of more
// than maxItems items, or one whose items, each in its envelope, would take
// many times its size.
//
// When a part is odd (a change without a field, a message that is no object,
// two members with the same name where it matters) the rest splits as ever and
// the odd part becomes an item of type waypost.TypeUnparsed in an envelope of
// its own. Texts that come to rule something here (ids, types) are checked for
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
// around it and leaves everything else as it was, so such an event reaches
// receivers of the Cloud form with the members its client gave it: type
// "voice", sha256 in hex, file, errors with details. ToOnPrem takes the
// envelope off, and rewrites only what the client never wrote:
//
//   - type "audio" with audio.voice true: type "voice", object voice without
//     that flag
//   - error_data.details of an error: details; a message equal to the title is
//     left out
//   - system.wa_id of a changed number: new_wa_id
//
// That is why events need no mark of where they came from, and why the way
// there and back is exact. Members the client did not know otherwise (media
// url, user ids, unknown ones) go along: receivers ignore what they don't know,
// and nothing is lost.
package meta

const (
	objectAccount          = "whatsapp_business_account"
	fieldMessages          = "messages"
	fieldEchoes            = "message_echoes"
	fieldBusinessAppEchoes = "smb_message_echoes"
)
