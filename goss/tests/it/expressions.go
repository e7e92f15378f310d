// What Go says of expressions: reads a JSON list of {"expression", "text"} and prints a list of "yes", "no" and
// "refused".
package main

import (
	"encoding/json"
	"os"
	"regexp"
)

func main() {
	var cases []struct{ Expression, Text string }
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	said := make([]string, len(cases))
	for i, one := range cases {
		expression, err := regexp.Compile(one.Expression)
		switch {
		case err != nil:
			said[i] = "refused"
		case expression.MatchString(one.Text):
			said[i] = "yes"
		default:
			said[i] = "no"
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		panic(err)
	}
}
