package pools

import (
	"math"
	"regexp"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// growth bounds the size of a function's result by the size of its arguments.
type growth func(args float64) float64

func same(n float64) float64     { return 1 + n }
func pieces(n float64) float64   { return 1 + 64*n }       // one element a byte
func product(n float64) float64  { return 1 + n*n }        // each with each
func replaced(n float64) float64 { return 1 + 64*n*n }     // something for every byte
func padded(n float64) float64   { return 1 + 32*n*(n+2) } // every verb may repeat every argument
func one(float64) float64        { return 2 }

type pure struct {
	impl function.Function
	grow growth
}

// functions is the allow-list: pure, and with a result that is bounded by the
// arguments. Numbers are kept out on purpose (see meter.operation), and so is
// whatever reads files, clocks, the environment or chance.
var functions = map[string]pure{
	"chunklist":  {stdlib.ChunklistFunc, pieces},
	"coalesce":   {stdlib.CoalesceFunc, same},
	"compact":    {stdlib.CompactFunc, same},
	"concat":     {stdlib.ConcatFunc, same},
	"contains":   {stdlib.ContainsFunc, one},
	"distinct":   {stdlib.DistinctFunc, same},
	"element":    {stdlib.ElementFunc, same},
	"flatten":    {stdlib.FlattenFunc, same},
	"format":     {formatFunc, padded},
	"join":       {stdlib.JoinFunc, product},
	"keys":       {stdlib.KeysFunc, same},
	"length":     {stdlib.LengthFunc, one},
	"lookup":     {stdlib.LookupFunc, same},
	"lower":      {stdlib.LowerFunc, same},
	"merge":      {stdlib.MergeFunc, same},
	"replace":    {stdlib.ReplaceFunc, replaced},
	"reverse":    {stdlib.ReverseListFunc, same},
	"setproduct": {stdlib.SetProductFunc, setProduct},
	"slice":      {stdlib.SliceFunc, same},
	"sort":       {stdlib.SortFunc, same},
	"split":      {stdlib.SplitFunc, pieces},
	"substr":     {stdlib.SubstrFunc, same},
	"title":      {stdlib.TitleFunc, same},
	"trim":       {stdlib.TrimFunc, same},
	"trimprefix": {stdlib.TrimPrefixFunc, same},
	"trimspace":  {stdlib.TrimSpaceFunc, same},
	"trimsuffix": {stdlib.TrimSuffixFunc, same},
	"upper":      {stdlib.UpperFunc, same},
	"values":     {stdlib.ValuesFunc, same},
	"zipmap":     {stdlib.ZipmapFunc, same},
}

// setProduct bounds a product of any number of sets: n units make the largest
// one as n/3 sets of three elements.
func setProduct(n float64) float64 {
	if n > 40 {
		return 2 * maxSize
	}
	tuples := math.Pow(3, 1+n/3)
	return 1 + tuples*(n+1)
}

// call bounds a function call. An unknown function is an error when evaluated.
// cty converts the elements of a list to one type by comparing them in pairs,
// hence the square.
func call(name string, args cost) cost {
	f, ok := functions[name]
	if !ok {
		return args
	}
	return cost{f.grow(args.size), args.work + f.grow(args.size) + args.size*args.size}
}

func callable() map[string]function.Function {
	all := make(map[string]function.Function, len(functions))
	for name, f := range functions {
		all[name] = f.impl
	}
	return all
}

// longWidth finds a width or precision of three digits or more, as in "%999d".
var longWidth = regexp.MustCompile(`%[^a-zA-Z%]*[0-9]{3}`)

// maxDigits bounds a text that a format verb may take for a number.
const maxDigits = 256

// formatFunc is cty's format without the verbs that pad to any length, and
// without huge numbers: %d converts "1e600000000" into as many digits.
var formatFunc = function.New(&function.Spec{
	Params:   []function.Parameter{{Name: "format", Type: cty.String}},
	VarParam: &function.Parameter{Name: "args", Type: cty.DynamicPseudoType, AllowNull: true},
	Type:     function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if longWidth.MatchString(args[0].AsString()) {
			return cty.NilVal, function.NewArgErrorf(0, "widths and precisions have at most two digits")
		}
		for i, arg := range args[1:] {
			if n, err := convert.Convert(arg, cty.Number); err == nil && weight(n) > maxDigits/64 {
				return cty.NilVal, function.NewArgErrorf(i+1, "the number is too large")
			}
		}
		return stdlib.Format(args[0], args[1:]...)
	},
})
