package pools

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const head = "dayfly {\n  schema = 1\n}\n"

// hostile are inputs that end, hang or swell a program that gives them to HCL
// unguarded. want is a part of the first diagnostic; empty where refusing is
// not needed, because the input turns out to be harmless.
var hostile = map[string]struct{ src, want string }{
	"parentheses":      {"locals {\n a = " + strings.Repeat("(", 20_000), "Nested too deeply"},
	"brackets":         {"locals {\n a = " + strings.Repeat("[", 60_000), "Nested too deeply"},
	"braces":           {"locals {\n a = " + strings.Repeat("{a=", 20_000), "Nested too deeply"},
	"blocks":           {strings.Repeat("a {\n", 15_000), "Nested too deeply"},
	"templates":        {"locals {\n a = " + strings.Repeat(`"${`, 20_000), "Nested too deeply"},
	"heredocs":         {"locals {\n a = " + strings.Repeat("<<E\n${", 9_000), "Nested too deeply"},
	"nots":             {"locals {\n a = " + strings.Repeat("!", 60_000) + "true\n}\n", "Nested too deeply"},
	"nots over lines":  {"locals {\n a = (" + strings.Repeat("!\n", 30_000) + "true)\n}\n", "Nested too deeply"},
	"minuses":          {"locals {\n a = " + strings.Repeat("- ", 30_000) + "1\n}\n", "Nested too deeply"},
	"conditionals":     {"locals {\n a = " + strings.Repeat("true?1:", 9_000) + "1\n}\n", "Nested too deeply"},
	"mixed closers":    {"locals {\n a = " + strings.Repeat("(]", 30_000), "Nested too deeply"},
	"calls":            {"locals {\n a = " + strings.Repeat("lower(", 10_000), "Nested too deeply"},
	"indexes":          {"locals {\n b = 0\n a = [1]" + strings.Repeat("[local.b]", 7_000) + "\n}\n", "Expression refused"},
	"operator chain":   {"locals {\n a = 1" + strings.Repeat("+1", 30_000) + "\n}\n", "Expression refused"},
	"and chain":        {"locals {\n a = true" + strings.Repeat("&&true", 10_000) + "\n}\n", "Expression refused"},
	"long list":        {"locals {\n a = [" + strings.Repeat("1,", 32_000) + "]\n}\n", "Expression refused"},
	"attribute path":   {"locals {\n b = 0\n a = local" + strings.Repeat(".b", 30_000) + "\n}\n", "Expression refused"},
	"splats":           {"locals {\n a = [1]" + strings.Repeat("[*]", 20_000) + "\n}\n", "Nested too deeply"},
	"directives":       {"locals {\n a = \"" + strings.Repeat("%{if true}", 6_000) + "\"\n}\n", ""},
	"nested for":       {"locals {\n r = [" + strings.Repeat("1,", 1000) + "]\n a = [for a in local.r : [for b in local.r : [for c in local.r : c]]]\n}\n", "Expression refused"},
	"for in condition": {"locals {\n r = [" + strings.Repeat("1,", 3000) + "]\n a = [for a in local.r : a if length([for b in local.r : b if length([for c in local.r : c]) > 0]) > 0]\n}\n", "Expression refused"},
	"template for":     {"locals {\n r = [" + strings.Repeat("1,", 3000) + "]\n a = \"%{for a in local.r}%{for b in local.r}xxxxxxxxxxxxxxxxxxxxx%{endfor}%{endfor}\"\n}\n", "Expression refused"},
	"doubling text":    {doubling(`"xxxxxxxxxxxxxxxx"`, `"${local.l%d}${local.l%d}"`), "Expression refused"},
	"doubling list":    {doubling(`["x"]`, `[local.l%d, local.l%d]`), "Expression refused"},
	"doubling concat":  {doubling(`["x"]`, `concat(local.l%d, local.l%d)`), "Expression refused"},
	"doubling object":  {doubling(`{ a = "x" }`, `{ a = local.l%d, b = local.l%d }`), "Expression refused"},
	"doubling replace": {doubling(`"xx"`, `replace(local.l%d, "x", local.l%d)`), "Expression refused"},
	"doubling join":    {doubling(`"xx"`, `join(local.l%d, split("", local.l%d))`), "Expression refused"},
	"doubling format":  {doubling(`"%[1]s%[1]s"`, `format(local.l%d, local.l%d)`), "Expression refused"},
	"set product":      {"locals {\n a = setproduct(" + strings.Repeat("[1,2,3,4],", 40) + "[1])\n}\n", "Expression refused"},
	"quadratic":        {"locals {\n r = [" + quadraticList() + "]\n a = distinct(local.r)\n}\n", "Expression refused"},
	"format width":     {"locals {\n a = format(\"%999999999d\", 1)\n}\n", "widths and precisions"},
	"format precision": {"locals {\n a = format(\"%.999999999f\", 1)\n}\n", "widths and precisions"},
	"format number":    {"locals {\n a = format(\"%d\", \"1e600000000\")\n}\n", "too large"},
	"format float":     {"locals {\n a = format(\"%f\", \"1e-600000000\")\n}\n", "too large"},
	"huge number":      {"locals {\n a = \"x${1e600000000}\"\n}\n", "Expression refused"},
	"tiny number":      {"locals {\n a = \"x${1e-600000000}\"\n}\n", "Expression refused"},
	"huge index":       {"locals {\n b = [1]\n a = local.b[1e600000000]\n}\n", "Expression refused"},
	"text index":       {"locals {\n b = [1]\n a = local.b[\"1e600000000\"]\n}\n", "Expression refused"},
	"joined index":     {"locals {\n b = [1]\n a = local.b[\"1e6${\"00000000\"}\"]\n}\n", "A computed index"},
	"index in for":     {"locals {\n b = [1]\n a = [for i in [\"1e6\"] : local.b[\"${i}00000000\"]]\n}\n", "A computed index"},
	"splat index":      {"locals {\n b = [[1]]\n a = local.b[*][\"1e600000000\"]\n}\n", "Expression refused"},
	"function index":   {"locals {\n a = concat([1])[\"1e600000000\"]\n}\n", "Expression refused"},
	"most work":        {"locals {\n r = [" + numbered("\"%d\",", 3000) + "]\n a = distinct(local.r)\n}\n", ""},
	"most size":        {"locals {\n s = \"" + strings.Repeat("x", 50_000) + "\"\n" + numbered("x%d = \"${local.s}${local.s}${local.s}\"\n", 100) + "}\n", ""},
	"most pairs":       {"locals {\n r = [" + numbered("%d,", 3000) + "]\n a = [for x in local.r : x if true]\n b = true ? local.r : local.a\n}\n", ""},
	"most loops":       {"locals {\n r = [" + numbered("%d,", 100) + "]\n a = [for x in local.r : length([for y in local.r : x == y])]\n}\n", ""},
	"text as number":   {"locals {\n a = \"${\"1e600000000\" + 0}\"\n}\n", "Arithmetic is limited"},
	"text negated":     {"locals {\n a = \"${-\"1e600000000\"}\"\n}\n", "Arithmetic is limited"},
	"text modulo":      {"locals {\n t = \"1e600000000\"\n a = local.t % 7\n}\n", "Arithmetic is limited"},
	"growing number":   {doubling("99999999999999999999", "local.l%d * local.l%d"), "Expression refused"},
	"growing division": {doubling("0.0000000000000000001", "local.l%d / (1 / local.l%d)"), ""},
	"text as element":  {"locals {\n a = element([1], \"1e600000000\")\n}\n", "whole number, between"},
	"text as offset":   {"locals {\n a = substr(\"x\", \"1e600000000\", \"1e600000000\")\n}\n", "whole number, between"},
	"text as chunk":    {"locals {\n a = chunklist([1], \"1e600000000\")\n}\n", "whole number, between"},
	"text as bounds":   {"locals {\n a = slice([1], \"0\", \"1e600000000\")\n}\n", "whole number, between"},
	"text compared":    {"locals {\n a = \"1e600000000\" < 5\n}\n", ""},
	"text in sort":     {"locals {\n a = sort([1, \"1e600000000\"])\n}\n", ""},
	"text in lists":    {"locals {\n a = distinct([1, \"1e600000000\", true])\n}\n", ""},
	"many references":  {"locals {\n s = \"" + strings.Repeat("x", 20_000) + "\"\n a = \"" + strings.Repeat("${local.s}", 4000) + "\"\n}\n", "Expression refused"},
	"many refusals":    {manyRefusals(), "Expression refused"},
	"many unknown":     {"pool \"a\" {\n" + numbered("x%d = 1\n", 6000) + "}\n", "Unsupported argument"},
	"many missing":     {"locals {\n" + numbered("x%d = local.y\n", 900) + "}\n", "Unknown local"},
	"circle":           {"locals {\n" + numbered("x%[1]d = [local.x%[2]d, local.x%[2]d]\n", 900) + "x900 = local.x0\n}\n", "Locals in a circle"},
	"long chain":       {"locals {\n x900 = 1\n" + numbered("x%[1]d = local.x%[2]d\n", 900) + "}\n", ""},
	"too many locals":  {"locals {\n" + numbered("x%d = 1\n", 3000) + "}\n", "Too many locals"},
	"bad bytes":        {"locals {\n a = \"\xff\xfe\x00\"\n}\n\x00", ""},
	"quotes":           {strings.Repeat("\"", 60_000), ""},
	"heredoc ends":     {strings.Repeat("<<A\n", 15_000), ""},
	"newlines":         {strings.Repeat("\n", 60_000), ""},
	"commas":           {strings.Repeat(",", 60_000), ""},
	"dollars":          {"a = \"" + strings.Repeat("$${", 20_000), ""},
}

func doubling(first, next string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "locals {\n l0 = %s\n", first)
	for i := range 60 {
		fmt.Fprintf(&b, " l%d = "+next+"\n", i+1, i, i)
	}
	return b.String() + "}\n"
}

func quadraticList() string {
	var b strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&b, "\"%d\",", i)
	}
	return b.String()
}

func manyRefusals() string {
	return "locals {\n s = \"" + strings.Repeat("x", 20_000) + "\"\n" + numbered("x%d = \"${local.s}${local.s}${local.s}${1e99999999}\"\n", 800) + "}\n"
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		if strings.Contains(format, "[2]") {
			fmt.Fprintf(&b, format, i, i+1)
		} else {
			fmt.Fprintf(&b, format, i)
		}
	}
	return b.String()
}

// TestHostileFilesAreBounded measures each input in turn. The bounds are wide,
// for slow machines; what they exclude takes minutes, gigabytes or the process.
func TestHostileFilesAreBounded(t *testing.T) {
	const (
		mostTime   = 60 * time.Second
		mostMemory = 300 << 20
	)
	for name, in := range hostile {
		t.Run(name, func(t *testing.T) {
			files := map[string][]byte{"a.hcl": []byte(head), "b.hcl": []byte(in.src)}
			start := time.Now()
			var diags Diagnostics
			peak := peakMemory(func() { _, diags = Parse(files) })
			if took := time.Since(start); took > mostTime {
				t.Errorf("took %s, want at most %s", took, mostTime)
			}
			if peak > mostMemory {
				t.Errorf("held %d MiB, want at most %d", peak>>20, mostMemory>>20)
			}
			if got := diags.Error(); in.want != "" && !strings.Contains(got, in.want) {
				t.Errorf("diagnostics %.300q do not contain %q", got, in.want)
			}
		})
	}
}

// peakMemory is how much the heap grows while f runs, sampled.
func peakMemory(f func()) uint64 {
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	done := make(chan struct{})
	var peak uint64
	var sampler sync.WaitGroup
	sampler.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapAlloc+now.StackInuse)
			}
		}
	})
	f()
	close(done)
	sampler.Wait()
	runtime.ReadMemStats(&now)
	peak = max(peak, now.HeapAlloc+now.StackInuse)
	if base := before.HeapAlloc + before.StackInuse; peak > base {
		return peak - base
	}
	return 0
}
