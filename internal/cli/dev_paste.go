package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/waypost-gateway/waypost/internal/emulator"
)

// curl writes a command that gets a path of the gateway. More words for curl,
// already quoted, may come in front.
func (s *devStage) curl(path, header string, words ...string) string {
	command := []string{"curl -sS --fail-with-body -w '\\n'"}
	command = append(command, words...)
	if header != "" {
		command = append(command, "-H "+quote(header))
	}
	return strings.Join(append(command, quote(s.api.base+path)), " ")
}

// manageCurl writes a command for the management API.
func (s *devStage) manageCurl(path string, words ...string) string {
	return s.curl(path, "Authorization: Bearer "+devAdminToken, words...)
}

// quote makes one word of a text for every Unix shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// paste prints commands that go on from here. Each is one line that starts
// with two spaces; the lines between say what to expect.
func (s *devStage) paste(ctx context.Context) error {
	events, err := s.events(ctx)
	if err != nil {
		return err
	}
	if len(events.Data) == 0 {
		return errors.New("the gateway keeps no events")
	}
	first := events.Data[len(events.Data)-1].ID
	photo, err := s.photo()
	if err != nil {
		return err
	}
	held := s.stations[0].endpoints[0]
	s.table.printf("\nPaste any of these into another terminal and watch the table below.\n")
	s.command("A customer writes, in your words (needs openssl):", s.sayFunction(), "say 'Good morning'")
	s.command("A customer sends a photo. Paste it twice: the second is a duplicate and goes nowhere.", photo)
	s.command("The platform tells of an account:", s.manageCurl("/api/v1/events", "-H 'Content-Type: application/json'", "-d "+quote(
		fmt.Sprintf(`{"tenant_id":"%s","type":"platform.whatsapp","data":{"whatsapp":"%s","whatsapp_extra_info":4}}`,
			s.tenant, s.meta.Numbers()[1].Phone))))
	s.command("The first message, with every attempt that was made for it:", s.manageCurl("/api/v1/events/"+first))
	s.command("The newest events:", s.manageCurl("/api/v1/events?limit=5"))
	s.command("Hold a receiver back, write something, and let it go:",
		s.manageCurl("/api/v1/endpoints/"+held+"/pause", "-X POST"),
		s.manageCurl("/api/v1/endpoints/"+held+"/resume", "-X POST"))
	s.table.printf("What each receiver is registered with:\n")
	for _, st := range s.stations {
		s.table.printf("  %s\n", st.account.show)
	}
	s.table.printf("\n")
	return nil
}

func (s *devStage) command(title string, commands ...string) {
	s.table.printf("%s\n", title)
	for _, command := range commands {
		s.table.printf("  %s\n", command)
	}
}

// photo is a webhook that is signed already.
func (s *devStage) photo() (string, error) {
	item, err := s.meta.Item(s.meta.Numbers()[0], "image")
	if err != nil {
		return "", err
	}
	body := emulator.Body(item)
	return s.webhookCurl(quote("X-Hub-Signature-256: "+emulator.Sign(devAppSecret, body)), quote(string(body))), nil
}

func (s *devStage) webhookCurl(signatureWord, bodyWord string) string {
	return "curl -sS --fail-with-body -w 'answered %{http_code}\\n' -H 'Content-Type: application/json' -H " +
		signatureWord + " --data-binary " + bodyWord + " " + quote(s.api.base+devIngestPath)
}

// sayFunction is a shell function that sends its argument as a text message to
// the first number. The time and a counter make each message a new one.
func (s *devStage) sayFunction() string {
	n := s.meta.Numbers()[0]
	body := fmt.Sprintf(`{"object":"whatsapp_business_account","entry":[{"id":"%s","changes":[{"value":`+
		`{"messaging_product":"whatsapp","metadata":{"display_phone_number":"%s","phone_number_id":"%s"},`+
		`"contacts":[{"profile":{"name":"You"},"wa_id":"447700900361"}],`+
		`"messages":[{"from":"447700900361","id":"wamid.'$now.$said'","timestamp":"'$now'","type":"text",`+
		`"text":{"body":"'"$1"'"}}]},"field":"messages"}]}]}`, n.WABAID, n.Phone, n.PhoneNumberID)
	return "say() { said=$((said+1)); now=$(date +%s); body='" + body + "'; " +
		s.webhookCurl(`"X-Hub-Signature-256: sha256=$(printf %s "$body" | openssl dgst -sha256 -hmac `+
			quote(devAppSecret)+` | sed 's/.* //')"`, `"$body"`) + "; }"
}
