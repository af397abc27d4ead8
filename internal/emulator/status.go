package emulator

const errorCodesPage = "/documentation/business-messaging/whatsapp/support/error-codes"

// Sent is a message that the business sent, for statuses to tell of.
type Sent struct {
	Number Number
	ID     string
	To     string
}

// NewSent makes up a message of the business to one of its customers.
func (m *Meta) NewSent(n Number) Sent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newSent(n)
}

func (m *Meta) newSent(n Number) Sent {
	to := m.anyCustomer().phone
	return Sent{Number: n, ID: m.outgoingID(to), To: to}
}

// Status tells what became of a message: sent, delivered, read or failed. Any
// other word is passed on as it is.
func (m *Meta) Status(sent Sent, status string) Item {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status(sent, status)
}

func statusOfNew(status string) func(*Meta, Number) Item {
	return func(m *Meta, n Number) Item { return m.status(m.newSent(n), status) }
}

func (m *Meta) status(sent Sent, status string) Item {
	item := Item{
		Type: "whatsapp.status." + status, Number: sent.Number, ID: sent.ID, From: sent.To, At: m.tick(),
		field: "messages", part: "statuses",
	}
	item.content = object{
		{"id", sent.ID},
		{"status", status},
		{"timestamp", seconds(item.At)},
		{"recipient_id", sent.To},
	}
	switch status {
	case "sent", "delivered":
		item.content = append(item.content, member{"pricing", object{
			{"billable", true}, {"pricing_model", "PMP"}, {"type", "regular"}, {"category", "utility"},
		}})
	case "failed":
		item.content = append(item.content, member{"errors", array{graphError(131047, "Re-engagement message",
			"Message failed to send because more than 24 hours have passed since the customer last replied to this number.")}})
	}
	return item
}

func graphError(code int, title, details string) object {
	return object{
		{"code", code},
		{"title", title},
		{"message", title},
		{"error_data", object{{"details", details}}},
		{"href", errorCodesPage},
	}
}

// rateLimited is an error that belongs to no message.
func (m *Meta) rateLimited(n Number) Item {
	return Item{
		Type: "whatsapp.error", Number: n, At: m.tick(), field: "messages", part: "errors",
		content: graphError(130429, "Rate limit hit",
			"Message failed to send because there were too many messages sent from this phone number in a short period of time"),
	}
}
