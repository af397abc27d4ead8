package emulator

import "encoding/json"

// notice is an item whose value is all its own: a change of an account, a
// number or a template.
func (m *Meta) notice(n Number, field string, value object) Item {
	return Item{Type: "whatsapp." + field, Number: n, At: m.tick(), field: field, content: value}
}

func (m *Meta) accountUpdate(n Number) Item {
	return m.notice(n, "account_update", object{
		{"phone_number", n.Phone},
		{"event", "ACCOUNT_VIOLATION"},
		{"violation_info", object{{"violation_type", "SPAM"}}},
	})
}

func (m *Meta) accountReview(n Number) Item {
	return m.notice(n, "account_review_update", object{{"decision", "APPROVED"}})
}

func (m *Meta) qualityUpdate(n Number) Item {
	return m.notice(n, "phone_number_quality_update", object{
		{"display_phone_number", n.Phone},
		{"event", "THROUGHPUT_UPGRADE"},
		{"current_limit", "TIER_UNLIMITED"},
		{"max_daily_conversations_per_business", "TIER_UNLIMITED"},
	})
}

// templateStatus has an id above 2^53, which a reader that goes through floats
// gets wrong.
func (m *Meta) templateStatus(n Number) Item {
	return m.notice(n, "message_template_status_update", object{
		{"event", "APPROVED"},
		{"message_template_id", json.Number("1" + m.digits(18))},
		{"message_template_name", "order_packed"},
		{"message_template_language", "en_GB"},
		{"reason", "NONE"},
		{"message_template_category", "UTILITY"},
	})
}
