package digital99

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/waypost-gateway/waypost/internal/dialect"
	"github.com/waypost-gateway/waypost/internal/waypost"
)

// Alerts says who sends alerts, and through what.
type Alerts struct {
	GraphURL      string         // base of the Graph API; empty: Meta's
	Version       string         // of the Graph API, for example "v24.0"; empty: that one
	PhoneNumberID string         // the number that sends them
	Token         waypost.Secret // of that number
	// Template is the name of an approved template in Hebrew whose body has one
	// parameter. Empty: plain text, which only reaches phones that wrote to the
	// sending number within the last 24 hours.
	Template string
}

// configured reports whether there is somebody to send alerts.
func (a Alerts) configured() bool { return a.PhoneNumberID != "" && a.Token != "" }

// base is the Graph API. It is what an alert's endpoint is kept with; where an
// alert really goes is read from the configuration when it is sent, so that a
// new sender takes over for the settings that are there.
func (a Alerts) base() string {
	return strings.TrimSuffix(cmp.Or(a.GraphURL, "https://graph.facebook.com"), "/")
}

// url is where alerts are posted to.
func (a Alerts) url() string {
	return a.base() + "/" + url.PathEscape(cmp.Or(a.Version, "v24.0")) + "/" + url.PathEscape(a.PhoneNumberID) + "/messages"
}

// alertMark begins what an alert carries and its statuses bring back.
const alertMark = "waypost-alert:"

// maxAlert is the most runes of an alert: a template's parameter has no room for
// more.
const maxAlert = 1000

// alertPolicy: the Graph API answers within seconds and hiccups for minutes.
// Sending is not idempotent there, so an answer that was lost may mean a second
// alert, which is better than none.
func alertPolicy() waypost.Policy {
	return waypost.Policy{
		Success: waypost.Success2xx,
		Timeout: 15 * time.Second,
		Schedule: []time.Duration{
			5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour,
		},
	}
}

func (d Dialect) encodeAlert(item dialect.Item, c *change) (dialect.Hook, error) {
	if !d.alerts.configured() {
		return dialect.Hook{}, dialect.ErrNotWanted
	}
	notice, _ := noticeOf(c) // fits has seen that it is one
	message := graphMessage{
		MessagingProduct: "whatsapp",
		RecipientType:    "individual",
		To:               "+" + strings.TrimPrefix(item.Endpoint.Slot, alertPrefix),
		CallbackData:     alertMark + item.Event.ID.String(),
	}
	message.write(d.alerts.Template, notice.hebrew(businessPhone(item, c)))
	body, err := dialect.EncodeJSON(message)
	if err != nil {
		return dialect.Hook{}, err
	}
	header := http.Header{"Authorization": {"Bearer " + d.alerts.Token.Reveal()}}
	return dialect.Hook{URL: d.alerts.url(), Body: body, Header: header}, nil
}

func (m *graphMessage) write(template, line string) {
	if runes := []rune(line); len(runes) > maxAlert {
		line = string(runes[:maxAlert-1]) + "…"
	}
	if template == "" {
		m.Type, m.Text = "text", &graphText{Body: line}
		return
	}
	m.Type, m.Template = "template", &graphTemplate{
		Name:     template,
		Language: graphLanguage{Code: "he"},
		Components: []graphComponent{{
			Type: "body", Parameters: []graphParameter{{Type: "text", Text: line}},
		}},
	}
}

// hebrew says the notice in one line. A template's parameter takes no line
// breaks and no runs of spaces, so there are none.
func (n notice) hebrew(phone string) string {
	line := "התראת מערכת: " + n.sentence()
	if phone != "" {
		line = "התראת מערכת לחשבון " + phone + ": " + n.sentence()
	}
	return strings.Join(strings.Fields(line), " ")
}

func (n notice) sentence() string {
	switch n.kind {
	case noticeFailed:
		return n.failureSentence()
	case noticeLimit:
		return n.limitSentence()
	case noticeTemplate:
		return n.templateSentence()
	default:
		if sentence, ok := issueSentences[n.word]; ok {
			return sentence
		}
		return "התקבלה התראה על החשבון: " + n.word + "."
	}
}

var issueSentences = map[string]string{
	"flagged":         "המספר סומן בעקבות דיווחי ספאם או הפרת מדיניות.",
	"unflagged":       "הסימון של המספר הוסר.",
	"restricted":      "הוטלו הגבלות על החשבון.",
	"blocked":         "החשבון נחסם.",
	"block_scheduled": "החשבון עומד להיחסם.",
	"unblocked":       "חסימת החשבון הוסרה.",
	"deleted":         "החשבון נמחק.",
}

var templateVerbs = map[string]string{
	"approved":   "אושרה",
	"rejected":   "נדחתה",
	"paused":     "הושהתה",
	"disabled":   "הושבתה",
	"flagged":    "סומנה ועלולה להיות מושבתת",
	"reinstated": "הוחזרה לפעילות",
	"deleted":    "נמחקה",
	"archived":   "הועברה לארכיון",
	"in_appeal":  "נמצאת בערעור",
	"pending":    "ממתינה לאישור",
}

var failureReasons = map[int64]string{
	failedNoCredit:  "אין יתרה או שיש בעיית תשלום",
	failedOldApp:    "לא ניתן למסור את ההודעה לנמען",
	failedWindow:    "חלפו 24 שעות ונדרשת תבנית",
	failedTemplate:  "התבנית אינה מאושרת",
	failedRateLimit: "חריגה ממגבלת הקצב",
}

func (n notice) failureSentence() string {
	line := fmt.Sprintf("שליחת הודעה אל %s נכשלה (קוד %d)", n.recipient, n.code)
	if reason, ok := failureReasons[n.code]; ok {
		line += ": " + reason
	}
	return line + "."
}

func (n notice) limitSentence() string {
	switch n.limit {
	case 0:
		return "מגבלת השיחות היומית טרם נקבעה."
	case unlimited:
		return "מגבלת השיחות היומית הוסרה."
	default:
		return fmt.Sprintf("מגבלת השיחות היומית עודכנה ל-%d.", n.limit)
	}
}

func (n notice) templateSentence() string {
	if quality, ok := strings.CutPrefix(n.word, qualityPrefix); ok {
		return "איכות התבנית " + n.template + " השתנתה: " + quality + "."
	}
	if verb, ok := templateVerbs[n.word]; ok {
		return "התבנית " + n.template + " " + verb + "."
	}
	return "מצב התבנית " + n.template + " השתנה: " + n.word + "."
}

const (
	pairWait = 6 * time.Second // between two messages to one phone
	longWait = 24 * time.Hour
)

// graphVerdicts are what the Graph API's error codes ask for. What is not here,
// and 200 to 299, which are missing permissions, is left to the policy.
var graphVerdicts = func() map[int64]dialect.Verdict {
	verdicts := map[int64]dialect.Verdict{131056: {Wait: pairWait}}
	for _, code := range []int64{1, 2, 4, 80007, 130429, 131000, 131016, 131057, 133004} {
		verdicts[code] = dialect.Verdict{}
	}
	for _, code := range []int64{131048, 131049, 130472} { // limits that only time mends
		verdicts[code] = dialect.Verdict{Wait: longWait}
	}
	for _, code := range []int64{
		// The sender's account or set-up has to be mended first.
		0, 3, 10, 33, 100, 190, 368, 130497, 131005, 131031, 131037, 131042, 131045,
		132001, 132015, 132016, 133006, 133010, 134011,
		// The request or the recipient does not allow it.
		131008, 131009, 131021, 131026, 131047, 131050, 131051, 131053, 131062,
		132000, 132005, 132007, 132012, 132068, 135000,
	} {
		verdicts[code] = dialect.Verdict{GiveUp: true}
	}
	return verdicts
}()

// Judge implements dialect.Judger: the Graph API answers 400 to a rate limit and
// 500 to a bad account, so error.code counts and the status does not.
func (Dialect) Judge(endpoint *waypost.Endpoint, _ int, body []byte) (dialect.Verdict, bool) {
	var answer graphError
	if !isAlert(endpoint) || json.Unmarshal(body, &answer) != nil {
		return dialect.Verdict{}, false
	}
	code, err := strconv.ParseInt(string(answer.Error.Code), 10, 64)
	if err != nil {
		return dialect.Verdict{}, false
	}
	if code >= 200 && code <= 299 {
		return dialect.Verdict{GiveUp: true}, true
	}
	verdict, ok := graphVerdicts[code]
	return verdict, ok
}
