# The integral of sin from 0 to pi by the trapezoidal rule. Reads `n <intervals>`, prints a line for each tenth, then the integral.
{ n = $2 }
END {
  if (n < 1) { print "n must be 1 or more, it is " n > "/dev/stderr"; exit 2 }
  h = 3.14159265358979 / n
  for (i = 0; i <= n; i++) {
    sum += sin(i * h) * (i == 0 || i == n ? 0.5 : 1)
    if (i % int(n / 10 + 1) == 0) print "at", i * h
  }
  print "integral", sum * h
}
