// Package config turns flags, environment and a file into one checked Config.
//
// Four sources are laid over each other, the later ones winning:
//
//	defaults    Default, in code: one literal with a reason a line
//	file        YAML; keys as in config.example.yaml, unknown ones refused
//	environment CACHEPROXY_ and the path of a key in capitals, `_` for `.`: CACHEPROXY_REDIS_URL; scalars only
//	flags       the few that serve has
//
// Loading never stops at the first mistake. Every key remembers which source set it (a file and a line, a variable, a flag), so
// that a mistake found late, by validation or by policy.CompileSites, is still reported where the user wrote it:
//
//	config.yaml:12: rules[0].ttl: "5 minutes" is not a duration: write 300ms, 30s, 5m or 1h30m
//
// Keys whose feature this version does not have are known, because the file is a contract between versions, but setting one to
// anything that would change behaviour is a mistake too: a limit that is written down and silently not applied is worse than a
// process that does not start.
package config

// Config is the whole configuration. The yaml tags are the keys of the file, the env tags the same paths in capitals. Values
// are as given; String or Bytes of their types format them. It is not changed after Load returned it.
type Config struct {
	Listen    Listeners        `yaml:"listen" env:"LISTEN"`
	Server    Server           `yaml:"server" envPrefix:"SERVER_"`
	Drain     Drain            `yaml:"drain" envPrefix:"DRAIN_"`
	Wire      bool             `yaml:"wire" env:"WIRE"`
	Instance  string           `yaml:"instance" env:"INSTANCE"`
	Admin     Admin            `yaml:"admin" envPrefix:"ADMIN_"`
	Upstream  Upstream         `yaml:"upstream" env:"UPSTREAM" envPrefix:"UPSTREAM_"`
	Upstreams map[string]Group `yaml:"upstreams" env:"-"`
	Sites     []Site           `yaml:"sites" env:"-"`
	Redis     Redis            `yaml:"redis" envPrefix:"REDIS_"`
	Breaker   Breaker          `yaml:"breaker" envPrefix:"BREAKER_"`
	Near      Near             `yaml:"near" envPrefix:"NEAR_"`
	Client    Client           `yaml:"client" envPrefix:"CLIENT_"`
	Cache     Cache            `yaml:"cache" envPrefix:"CACHE_"`
	Collapse  Collapse         `yaml:"collapse" envPrefix:"COLLAPSE_"`
	Rules     []Rule           `yaml:"rules" env:"-"`
	Limits    []Limit          `yaml:"limits" env:"-"`
	Sessions  Sessions         `yaml:"sessions" envPrefix:"SESSIONS_"`
	Events    []Event          `yaml:"events" env:"-"`
	Warm      Warm             `yaml:"warm" envPrefix:"WARM_"`
	Log       Log              `yaml:"log" envPrefix:"LOG_"`
}

// Server bounds what one client may take of the public listeners.
type Server struct {
	HeaderTimeout  Duration `yaml:"header_timeout" env:"HEADER_TIMEOUT"`   // for a whole request head, a PROXY header, a TLS handshake
	IdleTimeout    Duration `yaml:"idle_timeout" env:"IDLE_TIMEOUT"`       // between two requests of a connection
	BodyTimeout    Duration `yaml:"body_timeout" env:"BODY_TIMEOUT"`       // for each further piece of a request's body
	WriteTimeout   Duration `yaml:"write_timeout" env:"WRITE_TIMEOUT"`     // how long a client may take nothing of a response
	MaxHeader      Size     `yaml:"max_header" env:"MAX_HEADER"`           // a request head
	MaxFields      int      `yaml:"max_fields" env:"MAX_FIELDS"`           // field lines of a request head
	MaxBody        Size     `yaml:"max_body" env:"MAX_BODY"`               // a request body; 0 = no bound
	MaxConnections int      `yaml:"max_connections" env:"MAX_CONNECTIONS"` // open at once, all listeners together; 0 = no bound

	MaxConnectionsPerClient int `yaml:"max_connections_per_client" env:"MAX_CONNECTIONS_PER_CLIENT"` // the same of one client; 0 = no bound
}

// Drain is how the process ends on SIGTERM.
type Drain struct {
	Delay   Duration `yaml:"delay" env:"DELAY"`     // serving on with /readyz failing, so that balancers notice
	Timeout Duration `yaml:"timeout" env:"TIMEOUT"` // then for what is in flight
}

// Admin is the operator's listener.
type Admin struct {
	Listen    string `yaml:"listen" env:"LISTEN"` // "" = none
	TokenFile string `yaml:"token_file" env:"TOKEN_FILE"`
}

// Upstream is where requests go: a URL, a name of Upstreams, or a map with more about a URL. URL wins over Name, which a file
// may have set below a variable; neither is set when the key is absent.
type Upstream struct {
	Name string `yaml:"-" env:"-"`
	URL  string `yaml:"url" env:"URL"`
	Link `yaml:",inline"`
}

// Link is how to talk to an upstream.
type Link struct {
	Host           string      `yaml:"host" env:"HOST"` // Host field sent; "" = as received
	ConnectTimeout Duration    `yaml:"connect_timeout" env:"CONNECT_TIMEOUT"`
	HeadTimeout    Duration    `yaml:"head_timeout" env:"HEAD_TIMEOUT"`
	IdleTimeout    Duration    `yaml:"idle_timeout" env:"IDLE_TIMEOUT"`
	TLS            UpstreamTLS `yaml:"tls" envPrefix:"TLS_"`
}

// UpstreamTLS is used with https URLs. Files are PEM.
type UpstreamTLS struct {
	CA                 string `yaml:"ca" env:"CA"`
	Cert               string `yaml:"cert" env:"CERT"`
	Key                string `yaml:"key" env:"KEY"`
	ServerName         string `yaml:"server_name" env:"SERVER_NAME"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify" env:"INSECURE_SKIP_VERIFY"`
}

// Group is a named upstream.
type Group struct {
	Members []Member `yaml:"members"`
	Link    `yaml:",inline"`
}

// Member is one server of a Group.
type Member struct {
	URL    string `yaml:"url"`
	Weight int    `yaml:"weight"`
}

// Site is a set of hosts with rules of its own.
type Site struct {
	Hosts    []string `yaml:"hosts"`
	Upstream Upstream `yaml:"upstream"`
	Rules    []Rule   `yaml:"rules"`
}

// Redis is the shared tier.
type Redis struct {
	URL      string   `yaml:"url" env:"URL"` // may hold a password: never logged
	StateURL string   `yaml:"state_url" env:"STATE_URL"`
	Timeout  Duration `yaml:"timeout" env:"TIMEOUT"`
	Prefix   string   `yaml:"prefix" env:"PREFIX"`
}

// Breaker stops asking a Redis that fails.
type Breaker struct {
	Failures int      `yaml:"failures" env:"FAILURES"`
	Cooldown Duration `yaml:"cooldown" env:"COOLDOWN"`
}

// Near is the memory of this process.
type Near struct {
	Size      Size     `yaml:"size" env:"SIZE"`
	MaxObject Size     `yaml:"max_object" env:"MAX_OBJECT"`
	Strict    bool     `yaml:"strict" env:"STRICT"`
	Lease     Duration `yaml:"lease" env:"LEASE"`
}

// Client says who is asking.
type Client struct {
	Trusted    []string `yaml:"trusted" env:"-"` // addresses and prefixes of peers whose Header is believed
	Header     string   `yaml:"header" env:"HEADER"`
	IPv6Prefix int      `yaml:"ipv6_prefix" env:"IPV6_PREFIX"` // bits that make one client
	Purge      []string `yaml:"purge" env:"-"`                 // addresses and prefixes of clients that may use the PURGE method
}

// Cache holds what is true of all rules.
type Cache struct {
	MaxObject   Size     `yaml:"max_object" env:"MAX_OBJECT"`
	MaxFill     Duration `yaml:"max_fill" env:"MAX_FILL"`
	Horizon     Duration `yaml:"horizon" env:"HORIZON"` // 0 = MaxFill and 30 s
	Keep        Duration `yaml:"keep" env:"KEEP"`
	Heuristic   bool     `yaml:"heuristic" env:"HEURISTIC"`
	Name        string   `yaml:"name" env:"NAME"`
	StatusField string   `yaml:"status_field" env:"STATUS_FIELD"`
	TagHeaders  []string `yaml:"tag_headers" env:"-"` // response fields that name tags
	TagFields   string   `yaml:"tag_fields" env:"TAG_FIELDS"`
}

// Collapse bounds what fills hold in memory and how long others wait for them.
type Collapse struct {
	Memory Size     `yaml:"memory" env:"MEMORY"`
	Wait   Duration `yaml:"wait" env:"WAIT"`
}

// Log is how the process speaks.
type Log struct {
	Format string   `yaml:"format" env:"FORMAT"`
	Access Access   `yaml:"access" envPrefix:"ACCESS_"`
	Redact []string `yaml:"redact" env:"-"`
}

// Access is the share of requests that are logged, 0 to 1: Hits of those answered from the cache, Sample of all others.
type Access struct {
	Sample float64 `yaml:"sample" env:"SAMPLE"`
	Hits   float64 `yaml:"hits" env:"HITS"`
}
