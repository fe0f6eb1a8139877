# Varnish as a cache of hot responses. What is not here is done by the built-in VCL, as its users' guide advises: collapsing of misses,
# two minutes of hit-for-miss for what may not be stored, ten seconds of grace with revalidation in the background.
vcl 4.1;

backend origin {
    .host = "127.0.0.1";              # its connections are kept and used again by default
    .port = "ORIGINPORT";
    .max_connections = 4000;                # reference "backend definition": unbounded by default; more than any test has clients
}

sub vcl_backend_response {
    set beresp.keep = 1h;                   # users' guide "Grace mode and keep": what is stale and has a validator is asked for with it
}

sub vcl_deliver {
    if (obj.hits > 0) {                     # customary, in many examples of the users' guide
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
}
