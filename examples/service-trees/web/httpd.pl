#!/usr/bin/perl
# httpd.pl FOLDER: a small web server on 127.0.0.1:$PORT, one request a connection. A line for each to standard error: status, method, path.
use strict;
use warnings;
use IO::Socket::INET;

my ($folder) = @ARGV;
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ENV{PORT}, Listen => 64, ReuseAddr => 1)
  or die "cannot listen on port $ENV{PORT}: $!\n";
$SIG{PIPE} = 'IGNORE';
$SIG{TERM} = sub { print STDERR "stopping\n"; exit 0 };
$SIG{HUP}  = sub { print STDERR "still here, as uid $<\n" };
STDERR->autoflush(1);
print STDERR "listening on port $ENV{PORT} as uid $<\n";

while (1) {
  my $client = $server->accept or next;    # a signal came
  my $request = <$client> // '';
  my ($method, $path) = $request =~ m{^(GET|HEAD) (/[^ ?]*)};
  while (defined(my $line = <$client>)) { last if $line =~ /^\r?$/ }
  my ($status, $body) = !defined $path ? (400, "Bad request\n") : content($path);
  print STDERR "$status ", $method // '-', ' ', $path // '-', "\n";
  print $client "HTTP/1.1 $status -\r\nServer: $ENV{SITE}\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n";
  print $client $body unless ($method // '') eq 'HEAD';
  close $client;
}

sub content {
  my ($path) = @_;
  return (403, "Forbidden\n") if $path =~ m{/\.};
  $path .= 'index.html' if $path =~ m{/$};
  open my $file, '<', "$folder$path" or return (404, "Not found\n");
  local $/;
  return (200, scalar <$file>);
}
