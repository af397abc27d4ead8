package meta

// Change is what the body of one item tells, as far as hooks are made of it.
// What Meta left out is zero, and so is what it wrote as something else than
// it says it does: an item is never refused for a member nobody may need.
type Change struct {
	Time  Text   `json:"-"` // of the entry, in unix seconds
	Field string `json:"field"`
	Value `json:"value"`
}

// Value is the value of a change, whatever its field.
type Value struct {
	Metadata struct {
		DisplayPhoneNumber Text `json:"display_phone_number"`
	} `json:"metadata"`
	Contacts []Contact `json:"contacts"`
	Messages []Message `json:"messages"`
	Echoes   []Message `json:"message_echoes"`
	Statuses []Status  `json:"statuses"`

	// Members of notices about an account, a number or a template.
	Event              Text `json:"event"`
	PhoneNumber        Text `json:"phone_number"`
	DisplayPhoneNumber Text `json:"display_phone_number"`
	CurrentLimit       Text `json:"current_limit"`
	BusinessLimit      Text `json:"max_daily_conversations_per_business"`
	PhoneLimit         Text `json:"max_daily_conversation_per_phone"` // its name before 2026
	TemplateName       Text `json:"message_template_name"`
	NewQuality         Text `json:"new_quality_score"`
	BanInfo            struct {
		State Text `json:"waba_ban_state"`
	} `json:"ban_info"`
	AlertInfo struct {
		Status Text `json:"alert_status"`
		Type   Text `json:"alert_type"`
	} `json:"alert_info"`
}

// Contact is what is known of a customer.
type Contact struct {
	Profile struct {
		Name     Text `json:"name"`
		Username Text `json:"username"`
	} `json:"profile"`
	WaID     Text `json:"wa_id"` // the phone
	UserID   Text `json:"user_id"`
	ParentID Text `json:"parent_user_id"`
}

// ContactOf gives the contact with this phone or this user id. A contact that
// is the only one is the customer's whatever it says. Zero: there is none.
func (v *Value) ContactOf(phone, userID Text) Contact {
	for _, c := range v.Contacts {
		same := phone != "" && c.WaID == phone || userID != "" && c.UserID == userID
		if same || len(v.Contacts) == 1 {
			return c
		}
	}
	return Contact{}
}
