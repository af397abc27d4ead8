package digital99

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/waypost-gateway/waypost/internal/meta"
)

// The kinds of notice.
const (
	noticeFailed   = "messages"
	noticeLimit    = "update"
	noticeTemplate = "template"
	noticeIssue    = "issues"
)

// unlimited stands for no daily limit, as it does in the provider's own lists.
const unlimited = 1_000_000

// notice is something a business should hear about its account.
type notice struct {
	kind string
	at   int64 // unix seconds
	// Of a message that failed.
	unique    string
	recipient string
	code      int64 // the provider's where it has one, else Meta's
	// Of a daily limit.
	limit int64
	// Of a template and of an issue.
	template string
	word     string
}

// issueWords are Meta's words for what happened to a number or an account, in
// the provider's.
var issueWords = map[meta.Text]string{
	"FLAGGED":              "flagged",
	"UNFLAGGED":            "unflagged",
	"ACCOUNT_VIOLATION":    "flagged",
	"ACCOUNT_RESTRICTION":  "restricted",
	"ACCOUNT_DELETED":      "deleted",
	"DISABLE":              "blocked",
	"SCHEDULE_FOR_DISABLE": "block_scheduled",
	"REINSTATE":            "unblocked",
}

// noticeOf reads a notice; ok is false for changes that nobody need hear of.
func noticeOf(c *change) (n notice, ok bool) {
	n.at = c.seconds(c.Time)
	switch c.Field {
	case "messages":
		return failureOf(c)
	case "business_capability_update":
		n.kind = noticeLimit
		n.limit, ok = limitOf(cmp.Or(c.BusinessLimit, c.PhoneLimit))
	case "phone_number_quality_update":
		if n.word, ok = issueWords[c.Event]; ok {
			n.kind = noticeIssue
			return n, true
		}
		n.kind = noticeLimit
		n.limit, ok = limitOf(cmp.Or(c.BusinessLimit, c.CurrentLimit))
	case "account_update":
		n.kind = noticeIssue
		what := c.Event
		if what == "DISABLED_UPDATE" {
			what = c.BanInfo.State
		}
		n.word, ok = issueWords[what]
	case "account_alerts":
		n.kind, n.word = noticeIssue, lower(c.AlertInfo.Type)
		ok = n.word != "" && c.AlertInfo.Status != "NONE"
	case "message_template_status_update":
		n.kind, n.template, n.word = noticeTemplate, string(c.TemplateName), lower(c.Event)
		ok = n.word != ""
	case "message_template_quality_update":
		n.kind, n.template, n.word = noticeTemplate, string(c.TemplateName), qualityPrefix+lower(c.NewQuality)
		ok = c.NewQuality != ""
	}
	return n, ok
}

// qualityPrefix tells the word for a template's quality from that for its status.
const qualityPrefix = "quality_"

func lower(word meta.Text) string { return strings.ToLower(string(word)) }

func failureOf(c *change) (notice, bool) {
	if len(c.Statuses) == 0 {
		return notice{}, false
	}
	status := &c.Statuses[0]
	n := notice{
		kind: noticeFailed, at: c.seconds(status.Timestamp),
		unique: string(status.ID), recipient: recipientOf(c),
	}
	if len(status.Errors) > 0 {
		n.code = failureCode(status.Errors[0].Code)
	}
	return n, true
}

// The provider's codes for a message that failed.
const (
	failedNoCredit  = 2
	failedOldApp    = 7
	failedWindow    = 8
	failedTemplate  = 12
	failedRateLimit = 16
)

// failureCodes are Meta's error codes in the provider's numbers. Others are
// passed on as they are: the two ranges don't meet.
var failureCodes = map[int64]int64{
	131042: failedNoCredit,
	131026: failedOldApp,
	131047: failedWindow,
	470:    failedWindow,
	132001: failedTemplate,
	132015: failedTemplate,
	132016: failedTemplate,
	4:      failedRateLimit,
	80007:  failedRateLimit,
	130429: failedRateLimit,
	131048: failedRateLimit,
	131056: failedRateLimit,
}

func failureCode(told meta.Text) int64 {
	code, _ := strconv.ParseInt(string(told), 10, 64) // 0 where Meta's makes no sense
	return cmp.Or(failureCodes[code], code)
}

// limitOf reads a daily limit, which comes as a number or as a word such as
// TIER_10K.
func limitOf(told meta.Text) (int64, bool) {
	switch word := strings.TrimPrefix(string(told), "TIER_"); word {
	case "UNLIMITED", "-1":
		return unlimited, true
	case "NOT_SET":
		return 0, true
	default:
		thousands, isK := strings.CutSuffix(word, "K")
		limit, err := strconv.ParseInt(thousands, 10, 32)
		if isK {
			limit *= 1000
		}
		return limit, err == nil && limit >= 0
	}
}

// hook writes the notice as a "system" hook of the number.
func (n notice) hook(phone string) any {
	head := systemHook{Status: statusOK, Hook: "system", Type: n.kind, To: phone, Timestamp: n.at}
	switch n.kind {
	case noticeFailed:
		return failedHook{systemHook: head, Unique: n.unique, MessageUpdate: n.code, MessageTo: n.recipient}
	case noticeLimit:
		return limitHook{systemHook: head, DailyLimit: n.limit}
	case noticeTemplate:
		return templateHook{systemHook: head, Template: n.template, TemplateUpdate: n.word}
	default:
		return issueHook{systemHook: head, IssueUpdate: n.word}
	}
}
