(* The inverse of a function that increases strictly on (0, infinity) and takes every real value, and its continuity.
   It is a least upper bound, so that no choice axiom is needed to have it as a function. *)
Require Import Reals Lra.
Open Scope R_scope.

Section Inverse.
Variable D : R -> R.
Hypothesis increasing : forall a b, 0 < a -> a < b -> D a < D b.
Hypothesis onto : forall x, exists t, 0 < t /\ D t = x.

Lemma reflects a b : 0 < a -> 0 < b -> D a < D b -> a < b.
Proof.
  intros Ha Hb H. destruct (Rtotal_order a b) as [L|[E|G]]; [exact L| |].
  - subst. lra. - pose proof (increasing b a Hb G). lra.
Qed.

Definition below (x t : R) := t = 0 \/ (0 < t /\ D t <= x).

Lemma below_bounded x : bound (below x).
Proof.
  destruct (onto x) as (m & Hm & E). exists m. intros t [->|[Ht L]]; [lra|].
  apply Rnot_lt_le. intros G. pose proof (increasing m t Hm G). lra.
Qed.

Lemma below_inhabited x : exists t, below x t.
Proof. exists 0. now left. Qed.

Definition inverse (x : R) : R := proj1_sig (completeness (below x) (below_bounded x) (below_inhabited x)).

Lemma inverse_spec x : 0 < inverse x /\ D (inverse x) = x.
Proof.
  unfold inverse. destruct (completeness _ _ _) as [g [U L]]. simpl.
  destruct (onto x) as (m & Hm & E).
  assert (g = m) as ->; [|auto]. apply Rle_antisym.
  - apply L. intros t [->|[Ht Lt]]; [lra|]. apply Rnot_lt_le. intros G. pose proof (increasing m t Hm G). lra.
  - apply U. right. split; [exact Hm|lra].
Qed.

Lemma inverse_less x t : 0 < t -> x < D t -> inverse x < t.
Proof. intros Ht H. destruct (inverse_spec x) as [P E]. apply reflects; auto. now rewrite E. Qed.

Lemma inverse_more x t : 0 < t -> D t < x -> t < inverse x.
Proof. intros Ht H. destruct (inverse_spec x) as [P E]. apply reflects; auto. now rewrite E. Qed.

Lemma inverse_continuous : continuity inverse.
Proof.
  intros x eps He. destruct (inverse_spec x) as [P E].
  set (e := Rmin eps (inverse x / 2)).
  assert (0 < e) by (apply Rmin_pos; lra).
  assert (e <= eps) by apply Rmin_l. assert (e <= inverse x / 2) by apply Rmin_r.
  pose proof (increasing (inverse x - e) (inverse x) ltac:(lra) ltac:(lra)).
  pose proof (increasing (inverse x) (inverse x + e) ltac:(lra) ltac:(lra)).
  exists (Rmin (D (inverse x + e) - x) (x - D (inverse x - e))). split; [apply Rmin_pos; lra|].
  intros z [_ Hz]. simpl in *. unfold R_dist in *.
  pose proof (Rmin_l (D (inverse x + e) - x) (x - D (inverse x - e))).
  pose proof (Rmin_r (D (inverse x + e) - x) (x - D (inverse x - e))).
  apply Rabs_def2 in Hz. apply Rabs_def1.
  - pose proof (inverse_less z (inverse x + e) ltac:(lra) ltac:(lra)). lra.
  - pose proof (inverse_more z (inverse x - e) ltac:(lra) ltac:(lra)). lra.
Qed.
End Inverse.
