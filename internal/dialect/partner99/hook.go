package partner99

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

const statusOK = "OK" // in every hook and every good answer

// withKey are the codes of a WhatsApp event that come with the daily limit and
// the account's API key: 1 to 3, the steps of its onboarding.
var withKey = []json.Number{"1", "2", "3"}

// Encode implements dialect.Dialect. Data that is not an object, has a member
// of another type, or has no code, makes no hook. The error holds no value of
// the data, which may be a key.
func (Dialect) Encode(item dialect.Item) (dialect.Hook, error) {
	if item.Event.Form != waypost.FormData {
		return dialect.Hook{}, dialect.ErrNotWanted
	}
	var hook any
	var err error
	switch item.Event.Type {
	case waypost.TypePlatformWhatsApp:
		hook, err = whatsappOf(item.Event.Body)
	case waypost.TypePlatformBuilder:
		hook, err = builderOf(item.Event.Body)
	case waypost.TypePlatformOnline:
		hook, err = onlineOf(item.Event.Body)
	default:
		return dialect.Hook{}, dialect.ErrNotWanted
	}
	if err != nil {
		return dialect.Hook{}, fmt.Errorf("read data: %w", err)
	}
	body, err := dialect.EncodeJSON(hook)
	return dialect.Hook{Body: body}, err
}

func whatsappOf(data []byte) (any, error) {
	var hook whatsappHook
	if err := read(data, &hook); err != nil {
		return nil, err
	}
	if hook.ExtraInfo == "" {
		return nil, errors.New("whatsapp_extra_info is missing")
	}
	hook.Status, hook.Event = statusOK, "whatsapp"
	if !slices.Contains(withKey, hook.ExtraInfo) {
		hook.DailyLimit, hook.APIKey = "", ""
	}
	return hook, nil
}

func builderOf(data []byte) (any, error) {
	var hook builderHook
	if err := read(data, &hook); err != nil {
		return nil, err
	}
	if hook.ExtraInfo == "" {
		return nil, errors.New("builder_extra_info is missing")
	}
	hook.Status, hook.Event = statusOK, "builder"
	return hook, nil
}

func onlineOf(data []byte) (any, error) {
	var hook onlineHook
	if err := read(data, &hook); err != nil {
		return nil, err
	}
	if hook.ExtraInfo == "" {
		return nil, errors.New("online_extra_info is missing")
	}
	hook.Status, hook.Event = statusOK, "online"
	return hook, nil
}

// read drops the decoder's own error where it may quote a value.
func read(data []byte, hook any) error {
	err := json.Unmarshal(data, hook)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return fmt.Errorf("%q is not of the right type", wrongType.Field)
	}
	if err != nil {
		return errors.New("it is not an object with members of the right types")
	}
	return nil
}
