package github

import "github.com/google/go-github/v62/github"

const perPage = 100 // GitHub's most

// maxWalks bounds how often a list that changes while it is read is read.
const maxWalks = 3

// walk reads all pages of a list. Entries that disappear while it is read
// shift later ones to a page that was read already, where they would be
// missed; when GitHub's own count says so the list is read again, and what
// was seen in any of the walks is returned.
func walk[T any](id func(T) int64, page func(github.ListOptions) (items []T, total int, resp *github.Response, err error)) ([]T, error) {
	var all []T
	at := map[int64]int{}
	for range maxWalks {
		seen, first, last := 0, -1, 0
		opts := github.ListOptions{PerPage: perPage}
		for {
			items, total, resp, err := page(opts)
			if err != nil {
				return nil, err
			}
			for _, item := range items {
				if i, ok := at[id(item)]; ok {
					all[i] = item
					continue
				}
				at[id(item)] = len(all)
				all = append(all, item)
			}
			if first < 0 {
				first = total
			}
			seen, last = seen+len(items), total
			if resp.NextPage == 0 {
				break
			}
			opts.Page = resp.NextPage
		}
		if first == last && seen >= last {
			break
		}
	}
	return all, nil
}
