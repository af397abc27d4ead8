package emulator

// OnPremises is what a receiver of the On-Premises client's form must find in
// the callback for an item: no envelope, and the members whose form does not
// depend on the client's version. A callback may hold more; check it with
// HoldsJSON. Account and template notices have no such form: nil.
func OnPremises(item Item) []byte {
	if item.part == "" {
		return nil
	}
	var kept object
	for _, m := range item.content {
		switch m.key {
		case "from", "id", "timestamp", "text", "location", "contacts", "interactive", "button", "context",
			"status", "recipient_id", "code", "title":
			kept = append(kept, m)
		case "type":
			kept = append(kept, member{"type", onPremisesType(item)})
		case "image", "video", "document", "sticker", "audio":
			kept = append(kept, member{onPremisesType(item), keep(m.value, "caption", "filename", "mime_type", "id")})
		case "errors":
			kept = append(kept, member{"errors", keepEach(m.value, "code", "title")})
		}
	}
	return write(nil, object{{item.part, array{kept}}})
}

// onPremisesType is the message type there: a voice note has one of its own.
func onPremisesType(item Item) string {
	kind, _ := item.content.get("type").(string)
	if audio, ok := item.content.get("audio").(object); ok && audio.get("voice") == true {
		return "voice"
	}
	return kind
}

func (o object) get(key string) any {
	for _, m := range o {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// keep is an object with only the named members of value.
func keep(value any, keys ...string) object {
	kept := object{}
	from, _ := value.(object)
	for _, key := range keys {
		if v := from.get(key); v != nil {
			kept = append(kept, member{key, v})
		}
	}
	return kept
}

func keepEach(value any, keys ...string) array {
	kept := array{}
	from, _ := value.(array)
	for _, element := range from {
		kept = append(kept, keep(element, keys...))
	}
	return kept
}
