/* Heat in a rod, split among the ranks: du/dt = a d2u/dx2, forward Euler, ends held at 0 and 1.
 *
 * usage: heat_rod --diffusivity=<a>
 *
 * Each rank owns CELLS cells and exchanges its outermost ones with its neighbours in every step. Rank 0 writes result.json with
 * the number of ranks and the rod's mean, and its largest distance from the exact steady state u = x.
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS = 32, STEPS = 20000 };

int main(int argc, char **argv) {
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    const char *flag = "--diffusivity=";
    double diffusivity = argc == 2 && strncmp(argv[1], flag, strlen(flag)) == 0 ? atof(argv[1] + strlen(flag)) : 0.0;
    if (diffusivity <= 0) {
        if (rank == 0) fprintf(stderr, "usage: heat_rod --diffusivity=<above 0>\n");
        MPI_Finalize();
        return 2;
    }
    double h = 1.0 / (CELLS * ranks), dt = 0.45 * h * h / diffusivity, factor = diffusivity * dt / (h * h);
    double u[CELLS + 2] = {0}, next[CELLS + 2] = {0};
    int left = rank > 0 ? rank - 1 : MPI_PROC_NULL, right = rank < ranks - 1 ? rank + 1 : MPI_PROC_NULL;

    for (int step = 0; step < STEPS; step++) {
        MPI_Sendrecv(&u[1], 1, MPI_DOUBLE, left, 0, &u[CELLS + 1], 1, MPI_DOUBLE, right, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Sendrecv(&u[CELLS], 1, MPI_DOUBLE, right, 1, &u[0], 1, MPI_DOUBLE, left, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        /* The ends lie half a cell outside the first and the last centre: the ghost value mirrors there. */
        if (rank == 0) u[0] = -u[1];
        if (rank == ranks - 1) u[CELLS + 1] = 2.0 - u[CELLS];
        for (int i = 1; i <= CELLS; i++) next[i] = u[i] + factor * (u[i - 1] - 2 * u[i] + u[i + 1]);
        memcpy(&u[1], &next[1], CELLS * sizeof u[0]);
    }

    double sum = 0, worst = 0, mean, error;
    for (int i = 1; i <= CELLS; i++) {
        double x = (rank * CELLS + i - 0.5) * h;
        sum += u[i] * h;
        worst = fmax(worst, fabs(u[i] - x));
    }
    MPI_Reduce(&sum, &mean, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Reduce(&worst, &error, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        FILE *result = fopen("result.json", "w");
        if (result == NULL) {
            perror("result.json");
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
        fprintf(result, "{\"ranks\": %d, \"mean\": %.6f, \"error\": %.3e}\n", ranks, mean, error);
        fclose(result);
    }
    MPI_Finalize();
    return 0;
}
