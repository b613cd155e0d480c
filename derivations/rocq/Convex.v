(* The master theorem in its usual words: phi_y strictly convex.  A differentiable function is strictly convex on (0, 1)
   only if its derivative increases strictly there, which is what Master.v starts from. *)
Require Import Reals Lra List Sums Preferences Master.
Open Scope R_scope.

Definition strictly_convex (f : R -> R) := forall a b t, 0 < a -> a < b -> b < 1 -> 0 < t < 1 ->
  f ((1 - t) * a + t * b) < (1 - t) * f a + t * f b.

Section Slope.
Variables f d : R -> R.
Hypothesis slope : forall t, 0 < t < 1 -> derivable_pt_lim f t (d t).
Hypothesis convex : strictly_convex f.

Definition chord a b := (f b - f a) / (b - a).

(* Nearer points have smaller chords from the left end, and larger ones to the right end. *)
Lemma chord_from_left a b h : 0 < a -> b < 1 -> 0 < h < b - a -> (f (a + h) - f a) / h < chord a b.
Proof.
  intros Ha Hb [P Q]. assert (T : 0 < h / (b - a) < 1).
  { split; [apply Rdiv_lt_0_compat; lra|]. apply (Rmult_lt_reg_r (b - a)); [lra|]. unfold Rdiv.
    rewrite Rmult_assoc, Rinv_l by lra. lra. }
  pose proof (convex a b _ Ha ltac:(lra) Hb T) as C.
  replace ((1 - h / (b - a)) * a + h / (b - a) * b) with (a + h) in C by (field; lra).
  apply (Rmult_lt_reg_r h); [lra|]. unfold chord, Rdiv at 1. rewrite Rmult_assoc, Rinv_l by lra.
  replace ((f b - f a) / (b - a) * h) with (h / (b - a) * (f b - f a)) by (field; lra). lra.
Qed.

Lemma chord_to_right a b h : 0 < a -> b < 1 -> 0 < h < b - a -> chord a b < (f (b - h) - f b) / - h.
Proof.
  intros Ha Hb [P Q]. assert (T : 0 < 1 - h / (b - a) < 1).
  { assert (0 < h / (b - a)) by (apply Rdiv_lt_0_compat; lra).
    assert (h / (b - a) < 1); [|lra]. apply (Rmult_lt_reg_r (b - a)); [lra|]. unfold Rdiv.
    rewrite Rmult_assoc, Rinv_l by lra. lra. }
  pose proof (convex a b _ Ha ltac:(lra) Hb T) as C.
  replace ((1 - (1 - h / (b - a))) * a + (1 - h / (b - a)) * b) with (b - h) in C by (field; lra).
  apply (Rmult_lt_reg_r h); [lra|]. unfold chord.
  replace ((f (b - h) - f b) / - h * h) with (f b - f (b - h)) by (field; lra).
  replace ((f b - f a) / (b - a) * h) with (h / (b - a) * (f b - f a)) by (field; lra). lra.
Qed.

Lemma slope_below_chord a b : 0 < a -> a < b -> b < 1 -> d a <= chord a b.
Proof.
  intros Ha L Hb. apply Rnot_lt_le. intros G.
  destruct (slope a ltac:(lra) (d a - chord a b) ltac:(lra)) as [delta H].
  pose proof (cond_pos delta) as D. set (h := Rmin (delta / 2) ((b - a) / 2)).
  pose proof (Rmin_l (delta / 2) ((b - a) / 2)) as M1. pose proof (Rmin_r (delta / 2) ((b - a) / 2)) as M2.
  assert (P : 0 < h) by (apply Rmin_pos; lra). fold h in M1, M2.
  specialize (H h ltac:(lra) ltac:(rewrite Rabs_right; lra)). apply Rabs_def2 in H.
  pose proof (chord_from_left a b h Ha Hb ltac:(lra)). lra.
Qed.

Lemma chord_below_slope a b : 0 < a -> a < b -> b < 1 -> chord a b <= d b.
Proof.
  intros Ha L Hb. apply Rnot_lt_le. intros G.
  destruct (slope b ltac:(lra) (chord a b - d b) ltac:(lra)) as [delta H].
  pose proof (cond_pos delta) as D. set (h := Rmin (delta / 2) ((b - a) / 2)).
  pose proof (Rmin_l (delta / 2) ((b - a) / 2)) as M1. pose proof (Rmin_r (delta / 2) ((b - a) / 2)) as M2.
  assert (P : 0 < h) by (apply Rmin_pos; lra). fold h in M1, M2.
  specialize (H (- h) ltac:(lra) ltac:(rewrite Rabs_left; lra)). apply Rabs_def2 in H.
  pose proof (chord_to_right a b h Ha Hb ltac:(lra)) as C.
  replace (b + - h) with (b - h) in H by ring. lra.
Qed.

Theorem convex_slope a b : 0 < a -> a < b -> b < 1 -> d a < d b.
Proof.
  intros Ha L Hb. set (m := (a + b) / 2).
  pose proof (slope_below_chord a m Ha ltac:(unfold m; lra) ltac:(unfold m; lra)).
  pose proof (chord_below_slope m b ltac:(unfold m; lra) ltac:(unfold m; lra) Hb).
  assert (chord a m < chord m b); [|lra].
  pose proof (convex a b (1 / 2) Ha L Hb ltac:(lra)) as C.
  replace ((1 - 1 / 2) * a + 1 / 2 * b) with m in C by (unfold m; field).
  unfold chord. replace (m - a) with ((b - a) / 2) by (unfold m; field).
  replace (b - m) with ((b - a) / 2) by (unfold m; field).
  unfold Rdiv at 1 3. apply Rmult_lt_compat_r; [apply Rinv_0_lt_compat; lra|]. lra.
Qed.
End Slope.

(* Strict convexity, C^1 on (0, 1), slope to -infinity at 0, continuity at 1 and, where phi is finite there, at 0. *)
Theorem master_theorem_convex (A : Type) (Y : list A) (phi d : A -> R -> R) (finite_at_0 : A -> Prop) (r : A -> R) :
  (2 <= length Y)%nat ->
  (forall y, strictly_convex (phi y)) ->
  (forall y t, 0 < t < 1 -> derivable_pt_lim (phi y) t (d y t)) ->
  (forall y t, 0 < t < 1 -> continuity_pt (d y) t) ->
  (forall y M, exists t, 0 < t < 1 /\ d y t < M) ->
  (forall y, continuity_pt (phi y) 1) ->
  (forall y, finite_at_0 y -> continuity_pt (phi y) 0) ->
  exists pi lam, interior A Y pi
    /\ (forall y, In y Y -> r y = d y (pi y) + lam)
    /\ (forall p, competitor A Y finite_at_0 p -> J A Y phi r p <= J A Y phi r pi)
    /\ (forall p, competitor A Y finite_at_0 p -> J A Y phi r p = J A Y phi r pi -> forall y, In y Y -> p y = pi y)
    /\ (forall ranking, incl ranking Y ->
          plackett_luce r ranking = plackett_luce (fun y => d y (pi y)) ranking).
Proof.
  intros N Cv Sl Co Ba C1 C0.
  apply (master_theorem A Y N phi d finite_at_0 Sl); auto.
  intros y. apply (convex_slope (phi y) (d y) (Sl y) (Cv y)).
Qed.
