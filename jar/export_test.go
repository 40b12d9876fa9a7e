package jar

// For tests of the parts that the suites test one by one.
var (
	ParseDate     = parseDate
	CanonicalHost = canonicalHost
	DomainMatch   = domainMatch
	PathMatch     = pathMatch
	DefaultPath   = defaultPath
)
