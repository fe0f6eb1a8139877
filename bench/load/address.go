package load

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// lookup finds the addresses of a name.
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// resolve finds where HOST:PORT is. It is asked once, and the address is what is connected to: a name that means something else later is not asked
// again. Unless remote is true, all addresses must be loopback: a name with others besides is refused. 0.0.0.0 is not: it is this machine, but not by
// what it says.
func resolve(ctx context.Context, lookup func(context.Context, string) ([]netip.Addr, error), addr string, remote bool) (netip.AddrPort, error) {
	host, number, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("load: address: %w", err)
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 || host == "" {
		return netip.AddrPort{}, fmt.Errorf("load: address %q is not HOST:PORT", addr)
	}
	all := []netip.Addr{}
	if ip, err := netip.ParseAddr(host); err == nil {
		all = append(all, ip)
	} else if all, err = lookup(ctx, host); err != nil {
		return netip.AddrPort{}, fmt.Errorf("load: address: %w", err)
	}
	if len(all) == 0 {
		return netip.AddrPort{}, fmt.Errorf("load: %s has no address", host)
	}
	first := all[0].Unmap()
	for _, ip := range all {
		ip = ip.Unmap()
		if !ip.IsLoopback() && !remote {
			return netip.AddrPort{}, fmt.Errorf("load: %s is %s, which is not loopback, and -allow-remote (AllowRemote) is not set", host, ip)
		}
		if ip.Is4() && !first.Is4() {
			first = ip // what most servers listen on
		}
	}
	return netip.AddrPortFrom(first, uint16(port)), nil
}
