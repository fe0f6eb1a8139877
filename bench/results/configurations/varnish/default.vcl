# Varnish as a cache of hot responses. What is not here is left to the built-in VCL and the defaults of its parameters, which its users' guide
# says are enough for most: collapsing of misses, two minutes of hit-for-miss for what may not be stored, ten seconds of grace with revalidation
# in the background.
vcl 4.1;

backend origin {
    .host = "127.0.0.1";              # its connections are kept and used again by default
    .port = "ORIGINPORT";
    .max_connections = 4000;                # reference "Attribute .max_connections"; more than any test has clients
}

sub vcl_recv {
    if (req.url ~ "^/pass/") {
        return (pass);                      # what its operator knows not to be for the cache need not be looked up, as for nginx and Squid
    }
}

sub vcl_backend_response {
    set beresp.keep = 1h;                   # users' guide "Grace mode and keep": what is stale may be answered with 304; none by default
}

sub vcl_deliver {
    if (obj.hits > 0) {                     # reference "obj.hits": "a value of 0 indicates a cache miss"
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
}
