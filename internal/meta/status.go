package meta

import "encoding/json"

// Status is the status of a sent message. Where it went to a group, the
// recipient is the group and the participant the member of it.
type Status struct {
	ID              Text            `json:"id"` // of the message
	Status          Text            `json:"status"`
	Timestamp       Text            `json:"timestamp"` // unix seconds
	RecipientID     Text            `json:"recipient_id"`
	RecipientUserID Text            `json:"recipient_user_id"`
	RecipientType   Text            `json:"recipient_type"`
	Participant     Text            `json:"recipient_participant_id"`
	ParticipantAlt  Text            `json:"participant_recipient_id"` // another spelling of it
	ParticipantUser Text            `json:"recipient_participant_user_id"`
	CallbackData    json.RawMessage `json:"biz_opaque_callback_data"` // what the sender gave along
	Errors          []ErrorInfo     `json:"errors"`
	// Message is where some On-Premises clients have the recipient.
	Message struct {
		RecipientID Text `json:"recipient_id"`
	} `json:"message"`
}

// ErrorInfo is one of the errors of a status. The On-Premises client had
// Details where the Cloud API has those in ErrorData.
type ErrorInfo struct {
	Raw       json.RawMessage `json:"-"` // as it came in, not always an object
	Code      Text            `json:"code"`
	Title     Text            `json:"title"`
	Message   Text            `json:"message"`
	Details   Text            `json:"details"`
	ErrorData struct {
		Details Text `json:"details"`
	} `json:"error_data"`
}
