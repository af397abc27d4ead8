package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteJSON writes the report for machines.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "Measured %s on %d CPUs (%s), %s, %s.\n", r.Date, r.Machine.CPUs, r.Machine.CPU, r.Machine.System, r.Machine.Go)
	fmt.Fprintln(w, "Each figure: the median of the runs, and in brackets the least and the greatest.")
	fmt.Fprintln(w, "Foreign CPU: what other programs took meanwhile, in percent of one CPU; above 10 the figures say little.")
	scenario, store := "", ""
	for i := range r.Results {
		result := &r.Results[i]
		if result.Scenario != scenario || result.Store != store {
			scenario, store = result.Scenario, result.Store
			fmt.Fprintf(w, "\n%s on %s\n", scenario, store)
		}
		fmt.Fprintf(w, "  %s (foreign CPU %.0f %%)\n", result.Case, result.Foreign)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range result.Figures {
			fmt.Fprintf(table, "    %s\t%s %s\t[%s .. %s]\n", f.Name, number(f.Median), f.Unit, number(f.Min), number(f.Max))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// number writes three significant digits or so.
func number(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
