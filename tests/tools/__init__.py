"""The tools of the tests; no test is here.

service       a real gunicorn, started for one test and stopped after it
load          clients that send requests without a pause and count what fails
proxies       nginx and haproxy in front of a service
certificates  a certificate authority, and what it has signed
apps          pieces of source for the apps and hooks that a service runs
http2         a raw HTTP/2 client, which does what no library would
browser       a real chromium
namespaces    hosts of their own, as network namespaces
tallies       the counts of a worker, without a service

Run by ``make``, not by tests:

autobahn       Autobahn's fuzzing client against a worker
first_request  one request to what a Python has installed
kubernetes     a rollout on a real cluster, counting what is lost
release        what has to agree before a release
"""
